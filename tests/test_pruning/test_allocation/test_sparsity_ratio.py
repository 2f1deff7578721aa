"""Laws of the allocation by sparsity ratio."""

import copy
import itertools

import pytest
import torch
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import (
    ChannelPruner,
    Limits,
    SparsityRatio,
    Uniform,
    find_groups,
    sparsity_ratios,
    tensor_forward,
)

FORWARD = tensor_forward(torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8))
SIZES = (10, 16, 40)


class Chain(nn.Sequential):
    """Three groups of different width, without coupling."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        widths = (6, *SIZES, 4)
        super().__init__(*(nn.Linear(one, other, bias=False) for one, other in itertools.pairwise(widths)))


def groups_of(model):
    return find_groups(model, tensor_forward(torch.zeros(1, 6))).groups


def alive_of(groups):
    return [torch.ones(group.channels, dtype=torch.bool) for group in groups]


def channels(keep):
    return sum(int(mask.sum()) for mask in keep) / sum(len(mask) for mask in keep)


def allocated(model, target, limits=None, allocation=None, scores=None, keep=None):
    groups = groups_of(model)
    keep = alive_of(groups) if keep is None else keep
    allocation = allocation or SparsityRatio()
    allocation.prepare(model, groups, keep)
    scores = scores or [torch.arange(1.0, group.channels + 1) for group in groups]
    return allocation(scores, keep, target, channels, limits or Limits()), allocation


def make_sparse(layer, share):
    """A share of the weights is zero, all others are one."""
    with torch.no_grad():
        layer.weight.fill_(1.0).view(-1)[: round(share * layer.weight.numel())] = 0.0


def test_the_ratio_is_that_of_the_formula():
    """Written out for one layer; a layer of zeros is all sparse."""
    model = Chain()
    magnitude = model[0].weight.detach().abs()
    expected = float((magnitude < 0.3 * magnitude.mean()).float().mean())
    groups = groups_of(model)
    assert sparsity_ratios(model, groups, alive_of(groups), 0.3)[0] == pytest.approx(expected)
    model[1].weight.data.zero_()
    assert sparsity_ratios(model, groups, alive_of(groups))[1] == 1.0


def test_dead_channels_do_not_count():
    """Only the filters that are alive make the ratio."""
    model = Chain()
    make_sparse(model[0], 0.0)
    model[0].weight.data[:5] = 0.0
    groups = groups_of(model)
    keep = alive_of(groups)
    assert sparsity_ratios(model, groups, keep)[0] == 0.5
    keep[0][:5] = False
    assert sparsity_ratios(model, groups, keep)[0] == 0.0


@pytest.mark.parametrize('target', [0.9, 0.5, 0.3])
@pytest.mark.parametrize('limits', [Limits(), Limits(3, 4)])
def test_equal_sparsity_gives_uniform_ratios(target, limits):
    """The same masks as the uniform allocation, to the channel."""
    model = Chain()
    for layer in model:
        make_sparse(layer, 0.5)
    scores = [torch.randperm(size).float() for size in SIZES]
    ours, _ = allocated(model, target, limits, scores=scores)
    theirs = Uniform()(scores, alive_of(groups_of(model)), target, channels, limits)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs))


def test_ratios_are_proportional_to_sparsity():
    """``P_l = mu S_l`` up to one filter, with one mu."""
    model = Chain()
    for layer, share in zip(model, (0.1, 0.2, 0.4)):
        make_sparse(layer, share)
    keep, allocation = allocated(model, 0.6)
    lost = [int((~mask).sum()) for mask in keep]
    assert allocation.sparsity == pytest.approx((0.1, 0.2, 0.4), abs=0.01)
    mu = max(count / size / ratio for count, size, ratio in zip(lost, SIZES, allocation.sparsity))
    for count, size, ratio in zip(lost, SIZES, allocation.sparsity):
        assert count == pytest.approx(mu * ratio * size, abs=1.0)


@pytest.mark.parametrize('scope', ['layer', 'global'])
@pytest.mark.parametrize('target', [0.95, 0.7, 0.45, 0.2])
def test_the_budget_is_met_exactly_up_to_one_filter(scope, target):
    """At most the target, and one filter more would be too many."""
    keep, _ = allocated(Chain(), target, allocation=SparsityRatio(scope=scope))
    assert target - 1 / sum(SIZES) < channels(keep) <= target


@pytest.mark.parametrize('scope', ['layer', 'global'])
def test_the_limits_are_respected(scope):
    """Multiples of four, at least six, and the budget up to one such step."""
    keep, _ = allocated(Chain(), 0.5, Limits(6, 4), SparsityRatio(scope=scope))
    for mask in keep:
        kept = int(mask.sum())
        assert kept == len(mask) or (kept % 4 == 0 and kept >= 6)
    assert 0.5 - 4 / sum(SIZES) < channels(keep) <= 0.5


def test_scaling_a_layer_changes_nothing():
    """With layer-relative thresholds; the global threshold does see it."""
    model, scaled = Chain(), Chain()
    scaled[0].weight.data *= 256.0
    scaled[2].weight.data /= 256.0
    first, second = (allocated(one, 0.5)[0] for one in (model, scaled))
    assert all(torch.equal(one, other) for one, other in zip(first, second))
    first, second = (allocated(one, 0.5, allocation=SparsityRatio(scope='global'))[0] for one in (model, scaled))
    assert [int(mask.sum()) for mask in first] != [int(mask.sum()) for mask in second]


def test_scores_decide_within_a_layer():
    """What goes are the lowest scores, which are the filters' lengths with the default criterion."""
    model = Chain()
    scores = [layer.weight.detach().norm(dim=1) for layer in list(model)[:3]]
    keep, _ = allocated(model, 0.5, scores=scores)
    assert all(float(score[mask].min()) >= float(score[~mask].max()) for score, mask in zip(scores, keep))
    pruner = ChannelPruner(dict(channels=0.5), allocation=SparsityRatio(), round_to=1)
    pruner.attach(model, tensor_forward(torch.zeros(1, 6)))
    assert all(torch.equal(one, other) for one, other in zip(pruner.decide(1.0), keep))


def test_the_global_threshold_is_the_quantile():
    """Filters of equally many weights, a budget of channels: ``P_l = S_l`` at the quantile of all magnitudes."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(20, 20, bias=False) for _ in range(4)))
    for layer, scale in zip(model, (1.0, 2.0, 0.5, 1.0)):
        layer.weight.data *= scale
    groups = find_groups(model, tensor_forward(torch.zeros(1, 20))).groups
    allocation, keep = SparsityRatio(scope='global', max_ratio=1.0), alive_of(groups)
    allocation.prepare(model, groups, keep)
    masks = allocation([torch.arange(20.0)] * 3, keep, 0.5, channels, Limits())
    magnitudes = [layer.weight.detach().abs().flatten() for layer in list(model)[:3]]
    threshold = torch.cat(magnitudes).quantile(0.5)
    for mask, magnitude, ratio in zip(masks, magnitudes, allocation.sparsity):
        expected = float((magnitude < threshold).float().mean())
        assert float((~mask).float().mean()) == pytest.approx(expected, abs=1 / 20)
        assert ratio == pytest.approx(expected, abs=1 / 20)


def test_no_group_loses_more_than_the_largest_ratio_while_others_can():
    """Then all go further, in equal shares, so that any budget is met."""
    model = Chain()
    for layer, share in zip(model, (0.9, 0.1, 0.1)):
        make_sparse(layer, share)
    keep, _ = allocated(model, 0.6, allocation=SparsityRatio(max_ratio=0.7))
    assert int((~keep[0]).sum()) == 7
    keep, _ = allocated(model, 0.1, allocation=SparsityRatio(max_ratio=0.7))
    assert channels(keep) <= 0.1


def test_groups_without_small_weights_go_last():
    """Their ratio is 0 as long as the others can meet the budget."""
    model = Chain()
    for layer, share in zip(model, (0.0, 0.5, 0.5)):
        make_sparse(layer, share)
    assert int((~allocated(model, 0.5)[0][0]).sum()) == 0
    assert channels(allocated(model, 0.06)[0]) <= 0.06


def test_coupled_layers_are_one_group(residual):
    """Stem, projection and the sum of both: one ratio over the weights of all that make the channels."""
    groups = find_groups(residual, FORWARD).groups
    number = next(number for number, group in enumerate(groups) if group.name == 'stem.0')
    parts = [residual.stem[0].weight, residual.project[0].weight]
    small = sum(int((part.abs() < 0.25 * part.abs().mean()).sum()) for part in parts)
    expected = small / sum(part.numel() for part in parts)
    assert sparsity_ratios(residual, groups, alive_of(groups))[number] == pytest.approx(expected)


@pytest.mark.parametrize('resource', ['params', 'macs', 'channels'])
@pytest.mark.parametrize('scope', ['layer', 'global'])
def test_any_budget_is_met_in_steps(residual, resource, scope):
    """Through the pruner, which shows it the weights; with every criterion and schedule: see the pruner's tests."""
    pruner = ChannelPruner({resource: 0.5}, allocation=dict(type='SparsityRatio', scope=scope), round_to=1)
    pruner.attach(residual, FORWARD)
    for step in range(1, 5):
        pruner.update(step / 4)
        assert 0.5 ** (step / 4) - 0.15 < pruner.kept[resource] <= 0.5 ** (step / 4)


def test_every_allocation_has_to_be_prepared_for():
    """Numbers of an earlier model are not taken for those of now."""
    model, allocation = Chain(), SparsityRatio()
    keep = alive_of(groups_of(model))
    scores = [torch.arange(1.0, size + 1) for size in SIZES]
    with pytest.raises(MmsharpError, match=r'prepare\(model, groups, keep\)'):
        allocation(scores, keep, 0.5, channels, Limits())
    allocated(model, 0.5, allocation=allocation)
    with pytest.raises(MmsharpError, match=r'prepare\(model, groups, keep\)'):
        allocation(scores, keep, 0.5, channels, Limits())


def test_the_model_is_only_read():
    """Weights and gradients are as before."""
    model = Chain()
    before = copy.deepcopy(model.state_dict())
    for scope in ('layer', 'global'):
        allocated(model, 0.5, allocation=SparsityRatio(scope=scope))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    'arguments',
    [dict(alpha=0), dict(alpha='1'), dict(alpha=True), dict(alpha=float('nan')), dict(scope='model'),
     dict(max_ratio=0.0), dict(max_ratio=1.5), dict(max_ratio=True)],
)  # fmt: skip
def test_bad_arguments_are_refused(arguments):
    """By name."""
    with pytest.raises(MmsharpError, match=next(iter(arguments))):
        SparsityRatio(**arguments)
