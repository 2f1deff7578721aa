"""Train any mmdet or mmpretrain config, with whatever mmsharp parts it names.

    python tools/train.py CONFIG [--work-dir DIR] [--resume [CHECKPOINT]] [--amp] [--auto-scale-lr] [--cfg-options ...]

The flags are those of the toolboxes' own tools. Beside them this tool refuses unsafe checkpoints and missing data
before training starts, and keeps sharpness awareness under ``--amp``.
"""

from __future__ import annotations

import argparse
import os

from mmsharp.command_line import Options, run
from mmsharp.engine.checkpoints.checkpoint_guard import guard_checkpoint
from mmsharp.engine.checkpoints.safe_checkpoint import check_config_checkpoints, plain_checkpoints
from mmsharp.engine.configs.building_runner import build_runner
from mmsharp.engine.configs.config import (
    check_data,
    load_config,
    settle_amp,
    settle_auto_scale_lr,
    settle_dataloaders,
    settle_launcher,
    settle_resume,
    settle_work_dir,
)
from mmsharp.engine.configs.config_errors import naming_broken_config
from mmsharp.engine.configs.lost_precision import warn_of_lost_precision
from mmsharp.engine.data_errors.image_errors import naming_unreadable_images
from mmsharp.engine.hooks import GuardedLoadingHook
from mmsharp.engine.robustness.from_config import add_robustness_hook


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument('--amp', action='store_true', help='train in mixed precision; without a GPU in bfloat16')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate with the batch size')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint, or without a value from the latest one in the work directory',
    )
    parser.add_argument('--no-validate', action='store_true', help='skip validation during training')
    parser.add_argument(
        '--cfg-options', nargs='+', action=Options, help='overrides of the config, such as train_cfg.max_epochs=3'
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


@plain_checkpoints()
def main() -> None:
    """Build the runner that the config and the command line describe, and train."""
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    settle_work_dir(config, args.config, args.work_dir)
    settle_launcher(config, args.launcher)
    settle_dataloaders(config)
    settle_resume(config, args.resume)
    if args.amp:
        settle_amp(config)
    warn_of_lost_precision(config)
    if args.auto_scale_lr:
        settle_auto_scale_lr(config)
    if args.no_validate:
        config.val_cfg = config.val_dataloader = config.val_evaluator = None
    add_robustness_hook(config)
    check_data(config, ('train_dataloader', 'val_dataloader'))
    check_config_checkpoints(config.get('load_from'), config.get('resume', False), config.work_dir, config.model)
    with naming_broken_config(args.config):
        runner = build_runner(config)
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.register_hook(GuardedLoadingHook())
    if config.get('load_from'):
        guard_checkpoint(runner, config.load_from, partly=True)
    with naming_unreadable_images(config.work_dir):
        runner.train()


if __name__ == '__main__':
    run(main)
