"""Evaluate a checkpoint on its test set.

    python tools/test.py CONFIG CHECKPOINT [--work-dir DIR] [--out FILE.pkl] [--show-dir DIR] [--cfg-options ...]

Works with the ordinary config (a pruning hook in it gives the model the shapes of a slim training checkpoint) and with
the config that tools/slim.py writes. The toolboxes' own tools/test.py do the same; this one refuses unsafe checkpoints,
checkpoints that do not fit and missing data before it starts.
"""

from __future__ import annotations

import argparse
import os

from mmengine.config import ConfigDict

from mmsharp.command_line import Options, run
from mmsharp.engine.checkpoints.checkpoint_guard import guard_checkpoint
from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint, plain_checkpoints
from mmsharp.engine.configs.building_runner import build_runner
from mmsharp.engine.configs.config import (
    check_data,
    load_config,
    settle_dataloaders,
    settle_launcher,
    settle_work_dir,
    without_training,
)
from mmsharp.engine.configs.config_errors import naming_broken_config
from mmsharp.engine.configs.tta import augment_tests, check_augmented
from mmsharp.engine.data_errors.image_errors import naming_unreadable_images
from mmsharp.engine.hooks import GuardedLoadingHook
from mmsharp.errors import MmsharpError
from mmsharp.models import without_downloads


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--work-dir', help='folder for logs and metrics')
    parser.add_argument('--out', help='dump predictions to this .pkl file, for offline evaluation')
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--show-dir', help='write painted predictions to this folder')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds between shown images (default: 2)')
    parser.add_argument('--tta', action='store_true', help="test-time augmentation, the config's or mirrored")
    parser.add_argument('--cfg-options', nargs='+', action=Options, help='overrides of the config')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out {args.out!r} has to end in .pkl or .pickle')
    return args


@plain_checkpoints()
def main() -> None:
    """Build the runner that the config and the command line describe, and test."""
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    check_checkpoint(args.checkpoint)
    settle_work_dir(config, args.config, args.work_dir)
    settle_launcher(config, args.launcher)
    settle_dataloaders(config)
    config = without_training(config)
    config.model = without_downloads(config.model)
    config.load_from, config.resume = args.checkpoint, False
    if args.tta:
        augment_tests(config)
    check_data(config, ('test_dataloader',))
    if args.show or args.show_dir:
        _paint(config, args)
    with naming_broken_config(args.config):
        runner = build_runner(config)
    guard_checkpoint(runner, args.checkpoint)
    runner.register_hook(GuardedLoadingHook())
    if args.out is not None:
        runner.test_evaluator.metrics.append(_dump(config.get('default_scope'), args.out))
    if args.tta:
        check_augmented(runner.model, runner.test_evaluator)
    with naming_unreadable_images(config.work_dir):
        runner.test()


def _paint(config: ConfigDict, args: argparse.Namespace) -> None:
    hook = (config.get('default_hooks') or {}).get('visualization')
    if hook is None:
        raise MmsharpError('--show and --show-dir need default_hooks=dict(visualization=...) in the config')
    if config.get('default_scope') == 'mmpretrain':
        hook.update(enable=True, show=args.show, out_dir=args.show_dir, wait_time=args.wait_time)
    else:
        hook.update(draw=True, show=args.show, test_out_dir=args.show_dir, wait_time=args.wait_time)


def _dump(scope: str | None, path: str) -> object:
    if scope == 'mmdet':
        from mmdet.evaluation import DumpDetResults

        return DumpDetResults(out_file_path=path)
    from mmengine.evaluator import DumpResults

    return DumpResults(out_file_path=path)


if __name__ == '__main__':
    run(main)
