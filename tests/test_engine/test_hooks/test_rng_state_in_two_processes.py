"""Each of two processes goes on with the random numbers that were its own."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from mmengine.runner import Runner, set_random_seed
from torch import nn
from torch.utils.data import Dataset
from two_processes import in_two_processes

from mmsharp.engine.configs.config import settle_launcher

CASES = dict(
    epochs=dict(by_epoch=True, stop=2, end=4),
    iterations=dict(by_epoch=False, stop=4, end=7, interval=2, save_last=False),
    last_iteration=dict(by_epoch=False, stop=5, end=8, interval=4),
    written_in_validation=dict(by_epoch=False, stop=6, end=9, interval=4, save_last=False, val_interval=3),
)
"""Where a run stops and is resumed, and how its checkpoint there comes to be."""


@DATASETS.register_module(force=True)
class NoisyVectors(Dataset):
    """Each access draws from all generators, more often in the second process."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> dict:
        for _ in range(1 + get_rank()):
            noise = torch.randn(8) * random.random() + float(np.random.rand())
        return dict(inputs=noise + 0.01 * index)


@MODELS.register_module(force=True)
class DropoutBetweenMatrices(BaseModel):
    """Draws in the forward pass, and when it predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.2), nn.Linear(16, 4))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'predict':
            return [torch.rand(1) for _ in inputs]
        return dict(loss=(self.layers(inputs) - 1).square().mean())


@METRICS.register_module(force=True)
class EverBetter(BaseMetric):
    """The best so far at each validation, so that MMEngine writes its checkpoint then and there."""

    validations = 0

    def process(self, data_batch, data_samples) -> None:
        self.results.append(len(data_samples))

    def compute_metrics(self, results) -> dict:
        self.validations += 1
        return dict(score=float(self.validations))


def run(folder, by_epoch, until, resume=None, val_interval=None, **checkpoint):
    """The weights after training until an epoch or iteration."""
    loader = dict(
        batch_size=4,
        num_workers=0,
        dataset=dict(type='NoisyVectors'),
        sampler=dict(type='DefaultSampler' if by_epoch else 'InfiniteSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
    )
    train = dict(by_epoch=True, max_epochs=until) if by_epoch else dict(by_epoch=False, max_iters=until)
    config = dict(
        model=dict(type='DropoutBetweenMatrices'),
        work_dir=folder,
        experiment_name=Path(folder).name,
        train_dataloader=loader,
        train_cfg=train,
        optim_wrapper=dict(
            type='mmsharp.SAMOptimWrapper',
            ascent=dict(type='AdaSAP'),
            optimizer=dict(type='SGD', lr=0.05, momentum=0.9),
        ),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=by_epoch, **checkpoint),
            rng_state=dict(type='mmsharp.RNGStateHook'),
        ),
        default_scope='mmengine',
        randomness=dict(seed=0),
        log_level='WARNING',
        load_from=resume,
        resume=resume is not None,
    )
    if val_interval is not None:
        config['train_cfg']['val_interval'] = val_interval
        config['default_hooks']['checkpoint'].update(save_best='score', rule='greater')
        config['val_dataloader'] = dict(loader, sampler=dict(type='DefaultSampler', shuffle=False))
        config.update(val_cfg=dict(), val_evaluator=dict(type='EverBetter'))
    config = Config(config)
    settle_launcher(config, 'pytorch')
    runner = Runner.from_cfg(config)
    if resume is not None:
        set_random_seed(50 + get_rank())  # a new process has other states
    runner.train()
    return {name: value.detach().clone() for name, value in runner.model.module.state_dict().items()}


def train_and_resume(rank, folder, case):
    """The weights of a run to the end, and of one that was stopped and resumed."""
    options = dict(CASES[case])
    stop, end = options.pop('stop'), options.pop('end')
    whole = run(f'{folder}/whole', until=end, **options)
    run(f'{folder}/stopped', until=stop, **options)
    checkpoint = f'{folder}/stopped/{"epoch" if options["by_epoch"] else "iter"}_{stop}.pth'
    return whole, run(f'{folder}/resumed', until=end, resume=checkpoint, **options)


@pytest.mark.parametrize('case', CASES)
def test_a_resumed_run_ends_bitwise_like_the_uninterrupted_one(tmp_path, case):
    """In both processes, whose random numbers have nothing in common: after epochs, and after any saved iteration."""
    for whole, resumed in in_two_processes(train_and_resume, tmp_path, str(tmp_path), case):
        assert [name for name, value in whole.items() if not torch.equal(value, resumed[name])] == []
