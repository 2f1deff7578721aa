"""Weights with their channels last compute the same, through pruning, slimming and resuming."""

import pytest
import torch

HOOK = dict(type='mmsharp.ChannelsLastHook')
PRUNING = dict(
    type='mmsharp.AdaSAPHook',
    budget=dict(channels=0.5),
    warmup=1,
    pruning=2,
    interval=2,
    pruner=dict(type='mmsharp.ChannelPruner', round_to=1),
)
ASCENT = dict(type='AdaSAP')


def convolutions(model):
    return [weight for weight in model.parameters() if weight.dim() == 4 and weight.shape[2] > 1]


def train(make_runner, name, hooks=(), **settings):
    runner = make_runner(PRUNING, name, ASCENT, custom_hooks=list(hooks), **settings)
    runner.train()
    return runner.model


def in_format(model):
    return {weight.is_contiguous(memory_format=torch.channels_last) for weight in convolutions(model)}


@pytest.fixture
def usual(make_runner):
    """A network trained, pruned and slimmed in the usual format."""
    return train(make_runner, 'usual')


def test_the_numbers_are_the_same(make_runner, usual):
    """Up to rounding, in the slim network that AdaSAP ends in, whose weights are still in the format."""
    model = train(make_runner, 'last', [HOOK])
    assert (in_format(model), in_format(usual)) == ({True}, {False})
    assert convolutions(model)[0].shape == convolutions(usual)[0].shape
    for one, other in zip(model.parameters(), usual.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize('epoch', [1, 2, 4])
@pytest.mark.parametrize('first', [True, False], ids=['from it', 'to it'])
def test_a_run_goes_on_in_the_other_format(make_runner, usual, epoch, first, tmp_path):
    """Before, amid and after pruning: checkpoints are of no format."""
    train(make_runner, 'first', [HOOK] if first else [])
    resumed = train(
        make_runner, 'second', [] if first else [HOOK], resume=str(tmp_path / 'first' / f'epoch_{epoch}.pth')
    )
    assert in_format(resumed) == {not first}
    for one, other in zip(resumed.parameters(), usual.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-4)
