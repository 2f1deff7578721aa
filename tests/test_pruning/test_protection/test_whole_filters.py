"""Laws of the copies: shown as last whole, the model bitwise as before, allocations blind to what pruning has made."""

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


def shrunk(model, factor=0.3):
    """The model after its weights have gone elsewhere, with smaller norms."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def zeroed_weights(model, groups, zeroed):
    """Longhand: ``name -> bool tensor`` of the weights of the filters that make zeroed channels."""
    found = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in model.state_dict().items()}
    for group, mask in zip(groups.groups, zeroed):
        for member in group.members:
            weight = f'{member.module}.weight'
            if member.axis == 'out' and found[weight].dim() > 1:
                found[weight][member.positions[mask[member.channels]]] = True
    return found


def some(groups, channel):
    """One channel of each group, as masks."""
    return [torch.arange(group.channels) == channel for group in groups.groups]


def seen_in(whole, model):
    with whole.shown():
        return weights(model)


def test_zeroed_filters_are_shown_as_they_were_and_others_as_they_are(residual, groups):
    """By longhand, and bitwise as before when the look is over, also where it ends with an error."""
    zeroed, before = [~mask for mask in random_masks(groups).keep], weights(residual)
    whole = WholeFilters(residual, groups.groups)
    whole.before_zeroing(zeroed)
    shrunk(residual)
    after, chosen = weights(residual), zeroed_weights(residual, groups, zeroed)
    assert any(mask.any() for mask in chosen.values())
    expected = {name: torch.where(mask, before[name], after[name]) for name, mask in chosen.items()}
    assert same(seen_in(whole, residual), expected)
    assert same(weights(residual), after)
    with pytest.raises(ZeroDivisionError), whole.shown():
        raise ZeroDivisionError
    assert same(weights(residual), after)


@pytest.mark.parametrize('again', [True, False], ids=['zeroed again', 'spared'])
def test_small_filters_keep_their_older_copy(residual, groups, again):
    """Whatever a later step does with them; others are copied anew."""
    first, whole = weights(residual), WholeFilters(residual, groups.groups)
    whole.before_zeroing(some(groups, 0))
    shrunk(residual)
    second = weights(residual)
    others = some(groups, 1)
    whole.before_zeroing([one | other for one, other in zip(some(groups, 0), others)] if again else others)
    shrunk(residual)
    seen = seen_in(whole, residual)
    for masks, expected in ((some(groups, 0), first), (others, second)):
        for name, chosen in zeroed_weights(residual, groups, masks).items():
            assert torch.equal(seen[name][chosen], expected[name][chosen]), name


@pytest.mark.parametrize('factor', [1.0, 2.0])
def test_what_has_grown_to_its_length_is_whole(residual, groups, factor):
    """It is shown as it is, and copied as it is when it is zeroed again."""
    whole = WholeFilters(residual, groups.groups)
    whole.before_zeroing(some(groups, 0))
    shrunk(residual)
    shrunk(residual, factor / 0.3 * (1 + 1e-6))
    grown = weights(residual)
    assert same(seen_in(whole, residual), grown)
    whole.before_zeroing(some(groups, 0))
    shrunk(residual)
    seen = seen_in(whole, residual)
    for name, chosen in zeroed_weights(residual, groups, some(groups, 0)).items():
        assert torch.equal(seen[name][chosen], grown[name][chosen]), name


def test_what_was_restored_whole_is_whole_and_what_was_small_is_not(residual, groups):
    """A filter that came back as it was is shown as it is from the next look on, though it shrinks."""
    first, whole = weights(residual), WholeFilters(residual, groups.groups)
    both = [one | other for one, other in zip(some(groups, 0), some(groups, 1))]
    whole.before_zeroing(some(groups, 0))
    shrunk(residual)
    soft = SoftPruning(residual, groups.groups, [~mask for mask in both])
    whole.before_zeroing(both)
    soft.zero_()
    soft.restore_(both)
    whole.before_zeroing([torch.zeros_like(mask) for mask in both])
    shrunk(residual)
    now, seen = weights(residual), seen_in(whole, residual)
    for masks, expected in ((some(groups, 0), first), (some(groups, 1), now)):
        for name, chosen in zeroed_weights(residual, groups, masks).items():
            assert torch.equal(seen[name][chosen], expected[name][chosen]), name


def test_forgotten_or_loaded_copies(residual, groups):
    """A state is all there is; nothing is shown once it is forgotten."""
    zeroed = [~mask for mask in random_masks(groups).keep]
    whole, other = (WholeFilters(residual, groups.groups) for _ in range(2))
    whole.before_zeroing(zeroed)
    shrunk(residual)
    other.load_state_dict(whole.state_dict())
    now, expected = weights(residual), seen_in(whole, residual)
    assert not same(expected, now)
    assert same(seen_in(other, residual), expected)
    whole.forget()
    assert same(seen_in(whole, residual), now)


def test_soft_pruning_does_not_change_what_the_allocation_measures(residual, groups):
    """Sparsity ratios, and with them the masks, are those of the weights before; without copies they are not."""
    keep = random_masks(groups).keep
    everything = [torch.ones(group.channels, dtype=torch.bool) for group in groups.groups]
    before = sparsity_ratios(residual, groups.groups, everything)
    pruner = ChannelPruner(dict(params=0.5), allocation=SparsityRatio(), round_to=1)
    pruner.attach(residual, FORWARD, groups)
    whole = WholeFilters(residual, groups.groups)
    whole.before_zeroing([~mask for mask in keep])
    SoftPruning(residual, groups.groups, keep).zero_()
    pruner.decide(1.0, view=whole.shown)
    assert pruner.allocation.sparsity == tuple(before)
    pruner.decide(1.0)
    assert pruner.allocation.sparsity != tuple(before)


def test_what_is_of_another_model_is_refused(residual, groups):
    """Masks and states."""
    whole = WholeFilters(residual, groups.groups)
    with pytest.raises(MmsharpError, match='whole filters: masks of'):
        whole.before_zeroing([torch.ones(1, dtype=torch.bool)])
    one = [torch.ones(1, dtype=torch.bool)]
    with pytest.raises(MmsharpError, match='of another model'):
        whole.load_state_dict(dict(copied=one, copies=[None]))
