"""Laws of PSAP in two processes: both read the same pulses of different images, and bring the same filters back."""

from pathlib import Path

import pytest
import torch
from distributed_training import runner_of, weights_of
from mmengine.dist import get_rank
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from torch import nn
from torch.utils.data import Dataset
from two_processes import in_two_processes

from mmsharp.engine.hooks import PSAPHook
from mmsharp.registry import PROTECTIONS

PSAP = dict(
    type='mmsharp.PSAPHook',
    budget=dict(macs=0.5),
    pruner=dict(type='mmsharp.ChannelPruner', round_to=1),
    pruning=0.5,
    interval=4,
    hard=0.1,
)
WRAPPERS = {
    'plain': dict(type='OptimWrapper', accumulative_counts=2),
    'adasap': dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP')),
}


@PROTECTIONS.register_module(force=True)
class OfThisRank:
    """Remembers what it was shown, and answers differently in each process."""

    watch, gate, refill, memory, weight = 2, True, True, 0.9, 1.0

    def __init__(self):
        self.seen = []

    def __call__(self, pulse, gate, zeroed):
        self.seen.append(pulse)
        return zeroed & (torch.arange(len(zeroed)) % 2 == get_rank())


@DATASETS.register_module(force=True)
class PicturesOfThisRank(Dataset):
    """Random images, others in each process."""

    def __init__(self) -> None:
        self.images = torch.randn(24, 3, 6, 6, generator=torch.Generator().manual_seed(get_rank()))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.images[index], data_samples=torch.tensor(index % 2))


@MODELS.register_module(force=True)
class ConvolutionsInARow(BaseModel):
    """Two of them with BatchNorm, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()),
            *(nn.Conv2d(12, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        )
        self.classify = nn.Linear(16, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.classify(self.features(inputs).mean(dim=(2, 3)))
        return scores if mode == 'tensor' else dict(loss=nn.functional.cross_entropy(scores, data_samples))


def run(folder, hook, wrapper, resume=None):
    """A runner that has been trained."""
    runner = runner_of(
        folder, 'ConvolutionsInARow', 'PicturesOfThisRank', hook, WRAPPERS[wrapper], resume, iterations=24
    )
    runner.train()
    return runner


def train(rank, folder, hook, wrapper):
    """Weights, pulses where the protection remembers them, and the counts of every step."""
    runner = run(folder, hook, wrapper)
    pruning = next(hook for hook in runner.hooks if isinstance(hook, PSAPHook))
    scalars = runner.message_hub.log_scalars
    return dict(
        weights=weights_of(runner),
        pulses=getattr(pruning.protection, 'seen', []),
        steps={name: scalars[name].data[0].tolist() for name in scalars if name.startswith('psap/')},
        kind=pruning._state.kind,
        lines=(Path(folder) / 'psap.jsonl').read_text().count('\n') if rank == 0 else None,
    )


def train_and_resume(rank, folder, hook, wrapper):
    """Weights at the end: of the whole run, and of runs resumed inside a window, between windows, and masked."""
    runs = {'whole': run(f'{folder}/whole', hook, wrapper)}
    for iteration in (5, 6, 8, 13):
        path = f'{folder}/whole/iter_{iteration}.pth'
        runs[f'from {iteration}'] = run(f'{folder}/from_{iteration}', hook, wrapper, path)
    return {name: weights_of(runner) for name, runner in runs.items()}


@pytest.mark.parametrize('wrapper', WRAPPERS)
@pytest.mark.parametrize(
    'protection',
    [
        dict(type='mmsharp.ProtectiveReconstruction'),
        dict(type='mmsharp.ProtectiveReconstruction', gate=True),
        dict(type='OfThisRank'),
    ],
    ids=['ours', 'gates', 'own'],
)
def test_both_processes_decide_alike(tmp_path, wrapper, protection):
    """The same pulses, bitwise; the same filters come back, even if each would have others; the same weights."""
    hook = dict(PSAP, protection=protection)
    first, second = in_two_processes(train, tmp_path, str(tmp_path / 'run'), hook, wrapper)
    assert first['kind'] == second['kind'] == 'slim'
    assert first['steps'] == second['steps']
    assert len(first['steps']) == 8
    assert first['lines'] == 2 * (2 + 1)
    assert all(torch.equal(value, second['weights'][name]) for name, value in first['weights'].items())
    assert all(torch.equal(one, other) for one, other in zip(first['pulses'], second['pulses']))
    if protection['type'] == 'OfThisRank':
        assert any(pulse.any() for pulse in first['pulses'])


@pytest.mark.slow
def test_resuming_inside_the_window_is_bitwise_exact(tmp_path):
    """On both processes, two steps of the optimizer to a window."""
    hook = dict(PSAP, protection=dict(type='mmsharp.ProtectiveReconstruction', gate=True, watch=2))
    for results in in_two_processes(train_and_resume, tmp_path, str(tmp_path), hook, 'adasap'):
        whole = results.pop('whole')
        for name, resumed in results.items():
            assert [key for key, value in resumed.items() if not torch.equal(value, whole[key])] == [], name
