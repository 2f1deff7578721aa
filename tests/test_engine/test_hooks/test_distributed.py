"""Laws of pruning in two processes: whatever each of them sees, both train the same network to the end."""

import pytest
import torch
from distributed_training import momentum_of, runner_of, weights_of
from mmengine.dist import get_rank
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from torch import nn
from torch.utils.data import Dataset
from two_processes import in_two_processes

from mmsharp.engine.hooks import PruningHook
from mmsharp.pruning import ChannelPruner
from mmsharp.registry import CRITERIA, PRUNERS

SIZES = ((24, 20), (4, 4))
"""Images of rank 0 and of rank 1."""

PRUNING = dict(
    type='mmsharp.PruningHook',
    budget=dict(macs=0.5),
    pruner=dict(type='mmsharp.ChannelPruner', round_to=1),
    warmup=1,
    pruning=2,
    interval=2,
)
METHODS = [
    pytest.param(PRUNING, None, id='magnitude'),
    pytest.param(dict(PRUNING, type='mmsharp.AdaSAPHook'), dict(type='AdaSAP'), id='adasap'),
    pytest.param(
        dict(PRUNING, pruner=dict(type='DoubtingPruner', round_to=1, criterion=dict(type='OfThisRank'))),
        None,
        id='ranks-disagree',
    ),
]


@CRITERIA.register_module(force=True)
class OfThisRank:
    """Scores that differ between the processes, as with random numbers or rounding."""

    def __call__(self, model, group):
        return torch.rand(group.channels, generator=torch.Generator().manual_seed(get_rank()))


@PRUNERS.register_module(force=True)
class DoubtingPruner(ChannelPruner):
    """Finds the slim network wrong in the second process alone, as with other statistics there."""

    def verify(self, forward):
        return super().verify(forward) + get_rank()


@DATASETS.register_module(force=True)
class ImagesOfThisRank(Dataset):
    """Random images, larger in the first process."""

    def __init__(self) -> None:
        self.images = torch.randn(24, 3, *SIZES[get_rank()], generator=torch.Generator().manual_seed(get_rank()))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.images[index], data_samples=torch.tensor(index % 2))


@MODELS.register_module(force=True)
class ConvolutionsAndMatrices(BaseModel):
    """What a channel of the first costs depends on the size of the image, of the second it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1)
        )
        self.norm = nn.BatchNorm2d(12)
        self.classify = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.classify(torch.relu(self.norm(self.features(inputs))).mean(dim=(2, 3)))
        return scores if mode == 'tensor' else dict(loss=nn.functional.cross_entropy(scores, data_samples))


class Watch(Hook):
    """The sizes of all parameters after every iteration, and the weights when the channels have just been removed."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.after_slimming: dict[str, torch.Tensor] = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        model = runner.model.module
        self.sizes.append(sum(parameter.numel() for parameter in model.parameters()))
        if self.sizes[-1] < self.sizes[0] and not self.after_slimming:
            self.after_slimming = {name: value.detach().clone() for name, value in model.named_parameters()}


def run(folder, hook, ascent, resume=None):
    """A runner after its warm-up, pruning and fine-tuning, or what was left of them."""
    wrapper = dict(type='OptimWrapper') if ascent is None else dict(type='mmsharp.SAMOptimWrapper', ascent=ascent)
    average = dict(type='EMAHook', momentum=0.1)
    parts = 'ConvolutionsAndMatrices', 'ImagesOfThisRank', hook, wrapper
    runner = runner_of(folder, *parts, resume, epochs=5, custom_hooks=(average,))
    runner.register_hook(Watch())
    runner.train()
    return runner


def average_of(runner):
    """The averaged network."""
    return next(hook for hook in runner.hooks if isinstance(hook, EMAHook)).ema_model.module


def train(rank, folder, hook, ascent):
    """Weights, those of the average, the shape that was agreed on, and sizes."""
    runner = run(folder, hook, ascent)
    watch = next(hook for hook in runner.hooks if isinstance(hook, Watch))
    pruning = next(hook for hook in runner.hooks if isinstance(hook, PruningHook))
    return dict(
        weights=weights_of(runner),
        average={name: value.detach() for name, value in average_of(runner).named_parameters()},
        after_slimming=watch.after_slimming,
        momentum=momentum_of(runner),
        shape=list(pruning._state.input_shape),
        kind=pruning._state.kind,
        sizes=watch.sizes,
    )


def train_and_resume(rank, folder, hook, ascent):
    """Weights, average and momentum at the end: of the whole run, and of runs resumed from each of its checkpoints."""
    runs = {'whole': run(f'{folder}/whole', hook, ascent)}
    for epoch in (1, 2, 3, 4):
        runs[f'from {epoch}'] = run(f'{folder}/from_{epoch}', hook, ascent, f'{folder}/whole/epoch_{epoch}.pth')
    return {
        name: {
            **{f'weights {key}': value for key, value in weights_of(runner).items()},
            **{f'average {key}': value.detach() for key, value in average_of(runner).named_parameters()},
            **{f'momentum {place}': value for place, value in enumerate(momentum_of(runner))},
        }
        for name, runner in runs.items()
    }


@pytest.mark.parametrize(('hook', 'ascent'), METHODS)
def test_both_processes_end_with_the_same_slim_network(tmp_path, hook, ascent):
    """Images of different sizes, a budget in operations, an average beside: all bitwise equal, and really smaller."""
    first, second = in_two_processes(train, tmp_path, str(tmp_path / 'run'), hook, ascent)
    assert first['kind'] == second['kind'] == 'slim'
    assert first['shape'] == second['shape'] == [3, *SIZES[0]]
    assert first['sizes'] == second['sizes']
    assert first['sizes'][-1] < first['sizes'][0]
    for part in ('weights', 'average', 'after_slimming'):
        assert first[part].keys() == second[part].keys()
        assert all(torch.equal(value, second[part][name]) for name, value in first[part].items()), part
    assert all(torch.equal(value, other) for value, other in zip(first['momentum'], second['momentum']))


@pytest.mark.parametrize(('hook', 'ascent'), METHODS[:2])
def test_the_slim_network_goes_on_learning(tmp_path, hook, ascent):
    """Every weight moves after its channels were removed: the new wrapper knows the parameters."""
    first, _ = in_two_processes(train, tmp_path, str(tmp_path / 'run'), hook, ascent)
    assert first['after_slimming'].keys() == first['weights'].keys()
    for name, value in first['weights'].items():
        assert value.isfinite().all()
        assert not torch.equal(value, first['after_slimming'][name]), name


@pytest.mark.slow
@pytest.mark.parametrize(('hook', 'ascent'), METHODS[:2])
def test_resuming_from_any_phase_ends_bitwise_like_the_uninterrupted_run(tmp_path, hook, ascent):
    """On both processes, from a checkpoint before, during (twice) and after pruning."""
    for results in in_two_processes(train_and_resume, tmp_path, str(tmp_path), hook, ascent):
        whole = results.pop('whole')
        assert len(results) == 4
        for name, resumed in results.items():
            assert resumed.keys() == whole.keys()
            assert [key for key, value in resumed.items() if not torch.equal(value, whole[key])] == [], name
