"""Laws of the copies: shown as last whole, the model bitwise as before, allocations blind to what pruning has made."""

import copy

import pytest
import torch

from mmsharp.errors import MmsharpError
from mmsharp.pruning import (
    ChannelPruner,
    SoftPruning,
    SparsityRatio,
    WholeFilters,
    find_groups,
    sparsity_ratios,
    tensor_forward,
)

from ..conftest import random_masks

FORWARD = tensor_forward(torch.zeros(2, 3, 8, 8))


@pytest.fixture
def groups(residual):
    return find_groups(residual, FORWARD)


def grown(model):
    """The model after its weights have gone elsewhere."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.3).add_(torch.randn_like(parameter), alpha=0.01)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def zeroed_weights(model, groups, keep):
    """Longhand: ``name -> bool tensor`` of the weights of the filters that make zeroed channels."""
    found = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in model.state_dict().items()}
    for group, mask in zip(groups.groups, keep):
        for member in group.members:
            weight = f'{member.module}.weight'
            if member.axis == 'out' and found[weight].dim() > 1:
                found[weight][member.positions[~mask[member.channels]]] = True
    return found


def test_zeroed_filters_are_shown_as_they_were_and_others_as_they_are(residual, groups):
    """By longhand, and bitwise as before when the look is over, also where it ends with an error."""
    keep, before = random_masks(groups).keep, weights(residual)
    whole = WholeFilters(residual, groups.groups)
    whole.update(keep)
    grown(residual)
    after, chosen = weights(residual), zeroed_weights(residual, groups, keep)
    assert any(mask.any() for mask in chosen.values())
    expected = {name: torch.where(mask, before[name], after[name]) for name, mask in chosen.items()}
    with whole.shown():
        assert same(weights(residual), expected)
    assert same(weights(residual), after)
    with pytest.raises(ZeroDivisionError), whole.shown():
        raise ZeroDivisionError
    assert same(weights(residual), after)


def test_what_is_zeroed_again_keeps_its_older_copy(residual, groups):
    """What was kept in between is copied anew."""
    first, whole = weights(residual), WholeFilters(residual, groups.groups)
    everything = [torch.ones(group.channels, dtype=torch.bool) for group in groups.groups]
    again, anew = copy.deepcopy(everything), copy.deepcopy(everything)
    for mask, other in zip(again, anew):
        mask[0], other[1] = False, False
    whole.update(again)
    grown(residual)
    second = weights(residual)
    whole.update([mask & other for mask, other in zip(again, anew)])
    grown(residual)
    with whole.shown():
        seen = weights(residual)
    for masks, expected in ((again, first), (anew, second)):
        for name, chosen in zeroed_weights(residual, groups, masks).items():
            assert torch.equal(seen[name][chosen], expected[name][chosen]), name
    whole.update(everything)
    third = weights(residual)
    with whole.shown():
        assert same(weights(residual), third)


def test_forgotten_or_loaded_copies(residual, groups):
    """A state is all there is; nothing is shown once it is forgotten."""
    keep = random_masks(groups).keep
    whole, other = (WholeFilters(residual, groups.groups) for _ in range(2))
    whole.update(keep)
    grown(residual)
    other.load_state_dict(whole.state_dict())
    with whole.shown():
        expected = weights(residual)
    with other.shown():
        assert same(weights(residual), expected)
    whole.forget()
    with whole.shown():
        assert not same(weights(residual), expected)


def test_soft_pruning_does_not_change_what_the_allocation_measures(residual, groups):
    """Sparsity ratios, and with them the masks, are those of the weights before; without copies they are not."""
    keep = random_masks(groups).keep
    everything = [torch.ones(group.channels, dtype=torch.bool) for group in groups.groups]
    before = sparsity_ratios(residual, groups.groups, everything)
    pruner = ChannelPruner(dict(params=0.5), allocation=SparsityRatio(), round_to=1)
    pruner.attach(residual, FORWARD, groups)
    whole = WholeFilters(residual, groups.groups)
    whole.update(keep)
    SoftPruning(residual, groups.groups, keep).zero_()
    pruner.decide(1.0, view=whole.shown)
    assert pruner.allocation.sparsity == tuple(before)
    pruner.decide(1.0)
    assert pruner.allocation.sparsity != tuple(before)


def test_what_is_of_another_model_is_refused(residual, groups):
    """Masks and states."""
    whole = WholeFilters(residual, groups.groups)
    with pytest.raises(MmsharpError, match='whole filters: masks of'):
        whole.update([torch.ones(1, dtype=torch.bool)])
    with pytest.raises(MmsharpError, match='of another model'):
        whole.load_state_dict(dict(keep=[torch.ones(1, dtype=torch.bool)], copies=[None]))
