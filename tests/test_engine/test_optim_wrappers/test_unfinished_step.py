"""A run that goes on between two micro-batches ends as if nobody had interrupted it."""

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from small_network import PAIRS, SMALL
from torch import nn
from torch.utils.data import Dataset

from mmsharp.engine.optim_wrappers.unfinished_step import go_on_with, gradients_so_far
from mmsharp.errors import MmsharpError

pytestmark = pytest.mark.filterwarnings('ignore:Detected call of `scheduler.step')


@MODELS.register_module(force=True)
class NoisyNetwork(BaseModel):
    """BatchNorm and dropout."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 4))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=(self.layers(inputs) - 1).square().mean())


@DATASETS.register_module(force=True)
class NoisyVectors(Dataset):
    """Drawn anew whenever they are asked for."""

    def __len__(self):
        return 24

    def __getitem__(self, index):
        return dict(inputs=torch.randn(8) + 0.01 * index)


def trained(folder, wrapper, resume=None):
    """Nine iterations, three to a step, with a checkpoint after each."""
    config = dict(
        model=dict(type='NoisyNetwork'),
        work_dir=str(folder),
        experiment_name=f'{folder.parent.name}_{folder.name}',
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            dataset=dict(type='NoisyVectors'),
            sampler=dict(type='InfiniteSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=False, max_iters=9),
        optim_wrapper=dict(wrapper, accumulative_counts=3, optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1),
            rng_state=dict(type='mmsharp.RNGStateHook'),
        ),
        default_scope='mmengine',
        randomness=dict(seed=0),
        log_level='ERROR',
        load_from=resume,
        resume=resume is not None,
    )
    runner = Runner.from_cfg(Config(config))
    torch.manual_seed(0 if resume is None else 77)
    runner.train()
    return runner


@pytest.mark.parametrize('kind', ['SAMOptimWrapper', 'AmpSAMOptimWrapper'])
@pytest.mark.parametrize(('ascent', 'policy'), PAIRS)
def test_resumed_between_micro_batches(kind, ascent, policy, tmp_path):
    """Weights, momentum and statistics bitwise, for every ascent and policy."""
    settings = dict(dtype='bfloat16') if kind.startswith('Amp') else {}
    wrapper = dict(
        type=f'mmsharp.{kind}',
        ascent=dict(type=ascent),
        policy=dict(type=policy, **SMALL.get(policy, {})),
        **settings,
    )
    whole = trained(tmp_path / 'whole', wrapper)
    resumed = trained(tmp_path / 'resumed', wrapper, str(tmp_path / 'whole' / 'iter_4.pth'))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    states = [runner.optim_wrapper.optimizer.state_dict()['state'] for runner in (whole, resumed)]
    for place, state in states[0].items():
        assert torch.equal(states[1][place]['momentum_buffer'], state['momentum_buffer'])


def test_gradients_of_another_model_are_refused():
    """By number, with what to do."""
    first, second = nn.Linear(2, 3), nn.Linear(2, 4)
    optimizers = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (first, second)]
    first(torch.ones(1, 2)).sum().backward()
    kept = gradients_so_far(optimizers[0])
    with pytest.raises(MmsharpError, match="parameter '0' of an unfinished step"):
        go_on_with(optimizers[1], kept)
    for place in ('7', 'weight'):
        with pytest.raises(MmsharpError, match=place):
            go_on_with(optimizers[0], {place: torch.zeros(1)})
    first.zero_grad()
    go_on_with(optimizers[0], kept)
    assert torch.equal(first.weight.grad, kept['0'])
