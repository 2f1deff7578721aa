"""``torchrun`` with two processes on a CPU, as in the README: it trains, prunes, validates and writes once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint
from mmsharp.engine.pruning.pruning_state import PruningState

ROOT = Path(__file__).parents[2]

OPTIONS = (
    'load_from=None',
    'train_cfg.max_epochs=2',
    'train_dataloader.batch_size=4',
    'train_dataloader.dataset.indices=32',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'val_dataloader.dataset.indices=4',
    'default_hooks.pruning.warmup=0.2',
    'default_hooks.pruning.pruning=0.4',
    'default_hooks.pruning.interval=1',
    'model.backbone.base_channels=8',
    'model.backbone.stem_channels=8',
    'model.head.in_channels=64',
)
"""Two short epochs of a narrow classifier: the first ends with masks, the second on the slim network."""


@pytest.mark.slow
def test_two_processes_train_a_classifier_through_all_phases(tmp_path, digits):
    """The command of the launcher ends well, and the checkpoint of the second epoch is slim."""
    (tmp_path / 'data').symlink_to(digits / 'data')
    finished = subprocess.run(
        [
            *(sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2'),
            *(str(ROOT / 'tools/train.py'), str(ROOT / 'configs/adasap/resnet18_digits.py')),
            *('--launcher', 'pytorch', '--work-dir', 'run', '--cfg-options', *OPTIONS),
        ],
        cwd=tmp_path,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert finished.returncode == 0, f'{finished.stdout[-3000:]}\n{finished.stderr[-3000:]}'
    states = [check_checkpoint(tmp_path / f'run/epoch_{epoch}.pth') for epoch in (1, 2)]
    assert [PruningState.from_checkpoint(state).kind for state in states] == ['masked', 'slim']
    masked, slim = (sum(value.numel() for value in state['state_dict'].values()) for state in states)
    assert slim < masked
    assert all(value.isfinite().all() for value in states[1]['state_dict'].values() if torch.is_tensor(value))
    assert len(list((tmp_path / 'run').glob('*/*.log'))) == 1
