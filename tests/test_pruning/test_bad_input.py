"""Laws of refusal: one error that says what is wrong and what to do, and a model that is bitwise as it was."""

import copy

import pytest
import torch
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import ChannelPruner, Taylor, tensor_forward

from .conftest import Residual

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


class OneOfTwo(nn.Module):
    """A layer that only other inputs reach reads what this one makes."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.other, self.c = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x):
        hidden = self.a(x).relu()
        return self.c((self.b if hidden.max() > 0 else self.other)(hidden))


class AsManyAsFound(nn.Module):
    """An output for each large value inside."""

    def __init__(self):
        super().__init__()
        self.a, self.c = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        hidden = self.a(x).relu()
        return [self.c(hidden)] * int((hidden > 0.5).sum())


class AnyNumber(AsManyAsFound):
    """As many outputs as it likes."""

    def forward(self, x):
        return [self.c(self.a(x))] * int(torch.randint(1, 9, ()) + next(COUNTER))


COUNTER = iter(range(10**6))

REFUSED = {
    'a route that depends on the content': (OneOfTwo, {}, ROWS, 'no prunable channel group.*may be read by `other`'),
    'as many outputs as large values': (AsManyAsFound, {}, ROWS, 'no prunable channel group.*reads all channels'),
    'another number of outputs each time': (AnyNumber, {}, ROWS, 'two copies of AnyNumber disagree'),
    'a budget below reach': (Residual, dict(budget=dict(params=0.01)), IMAGE, 'smallest kept fraction is 0'),
    'no gradient seen': (Residual, dict(criterion=Taylor()), IMAGE, 'no gradient.*warm-up'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_refused_and_nothing_changes(name):
    """Parameters, buffers, training flags, hooks and the generator's state."""
    make, settings, inputs, words = REFUSED[name]
    torch.manual_seed(0)
    model = make().train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    pruner = ChannelPruner(**{'budget': dict(params=0.6), **settings})

    def prune():
        pruner.attach(model, tensor_forward(inputs))
        pruner.update(1.0)

    with pytest.raises(MmsharpError, match=words):
        prune()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize('budget', [1.5, -0.1, float('nan'), 0])
def test_shares_outside_of_their_range_are_refused(budget):
    """Before a model is even seen."""
    with pytest.raises(MmsharpError, match='budget'):
        ChannelPruner(dict(channels=budget))
