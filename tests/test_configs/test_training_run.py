"""Shipped configs in MMEngine's runner, with their own loop, hooks, optimizer and data, through all of the phases."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import EMAHook
from shipped_configs import load
from shipped_data import mappings, relocated, write_bccd, write_cifar10, write_voc

from mmsharp.engine.configs.building_runner import build_runner
from mmsharp.engine.configs.config import settle_dataloaders
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.sharpness import ASAM

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

SHORT = {
    'load_from': None,
    'log_level': 'WARNING',
    'train_cfg.max_epochs': 6,
    'train_cfg.val_interval': 6,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
    'default_hooks.checkpoint.interval': 2,
    'default_hooks.checkpoint.max_keep_ckpts': -1,
    'default_hooks.pruning.interval': 1,
    'default_hooks.pruning.warmup': 2,
    'default_hooks.pruning.pruning': 2,
}
"""Options that make any config six epochs long, two of each phase, without worker processes."""


def trained(name: str, data: Path, work_dir: Path, options: dict[str, Any], side: int | None = None) -> Any:
    """The runner of a config after its training, which was made short, and its images small, by options alone."""
    config = relocated(load(name), data)
    config.merge_from_dict({**SHORT, **options})
    for part in mappings([config.train_dataloader, config.val_dataloader] if side else []):
        for key in {'scale', 'crop_size', 'size'} & set(part):
            part[key] = (side, side)
    config.work_dir = str(work_dir)
    config.experiment_name = f'{Path(name).parent.name}_{Path(name).stem}_in_a_runner'
    settle_dataloaders(config)
    runner = build_runner(config)
    runner.train()
    return runner


def laws_of_a_run(runner: Any, ends: tuple[int, ...] = (2, 4, 6)) -> None:
    """Dense, masked and slim at the ends of the phases; the budget is met; the weights are finite and all learn."""
    paths = [Path(runner.work_dir) / f'epoch_{epoch}.pth' for epoch in ends]
    saved = [torch.load(path, weights_only=False) for path in paths]
    assert [PruningState.from_checkpoint(content).kind for content in saved] == ['dense', 'masked', 'slim']
    dense, masked, slim = (sum(tensor.numel() for tensor in content['state_dict'].values()) for content in saved)
    assert dense == masked > 2 * slim
    hook = next(hook for hook in runner.hooks if hasattr(hook, 'pruner'))
    assert hook.pruner.kept['params'] <= runner.cfg.default_hooks.pruning.budget.params
    parameters = list(runner.model.parameters())
    assert all(parameter.isfinite().all() for parameter in parameters)
    kept = {parameter for group in runner.optim_wrapper.optimizer.param_groups for parameter in group['params']}
    assert kept == {parameter for parameter in parameters if parameter.requires_grad}
    rates = {group['initial_lr']: group['lr'] for group in runner.optim_wrapper.optimizer.param_groups}
    assert all(last < first for first, last in rates.items()), 'the rate has not followed its schedule to the end'


def test_adasap_on_rtmdet_with_adamw_and_an_average(tmp_path):
    """Balls per channel until the network is slim, ASAM then; the average of the weights has shrunk, too."""
    write_bccd(tmp_path / 'data/bccd/BCCD')
    options = {'train_dataloader.batch_size': 2, 'val_dataloader.batch_size': 2}
    runner = trained('adasap/rtmdet_tiny_bccd.py', tmp_path / 'data', tmp_path / 'run', options, side=64)
    laws_of_a_run(runner)
    assert isinstance(runner.optim_wrapper.ascent, ASAM)
    assert isinstance(runner.optim_wrapper.optimizer, torch.optim.AdamW)
    [average] = [hook.ema_model for hook in runner.hooks if isinstance(hook, EMAHook)]
    shapes = [[tuple(p.shape) for p in model.parameters()] for model in (average.module, runner.model)]
    assert shapes[0] == shapes[1]


def test_taylor_scores_with_asam_on_resnet20(tmp_path):
    """Scores that are gathered from the gradients of the second pass, in every phase with the same ascent."""
    write_cifar10(tmp_path / 'data/cifar10')
    runner = trained('taylor_asam/resnet20_cifar10.py', tmp_path / 'data', tmp_path / 'run', {})
    laws_of_a_run(runner)
    assert isinstance(runner.optim_wrapper.ascent, ASAM)
    assert runner.message_hub.get_scalar('val/accuracy/top1').current() >= 0


@pytest.mark.large
@pytest.mark.timeout(900)
def test_taylor_scores_with_adasap_on_ssd512(tmp_path):
    """With the lengths of its phases as shares, and the first convolution whole."""
    write_voc(tmp_path / 'data/VOCdevkit')
    options = {
        'model.backbone.init_cfg': None,
        'model.backbone.norm_cfg.type': 'BN',
        'model.neck.norm_cfg.type': 'BN',
        'train_dataloader.batch_size': 2,
        'val_dataloader.batch_size': 2,
        'train_cfg.max_epochs': 3,
        'train_cfg.val_interval': 3,
        'default_hooks.checkpoint.interval': 1,
        'default_hooks.pruning.warmup': 1 / 3,
        'default_hooks.pruning.pruning': 1 / 3,
    }
    name = 'taylor_adasap/ssd512_r50_voc0712.py'
    runner = trained(name, tmp_path / 'data', tmp_path / 'run', options, side=264)
    laws_of_a_run(runner, ends=(1, 2, 3))
    assert runner.model.backbone.conv1.out_channels == 64
    assert isinstance(runner.optim_wrapper.ascent, ASAM)
