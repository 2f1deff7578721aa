import itertools
import math

import pytest
import torch
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import (
    ChannelGroup,
    Global,
    Knapsack,
    Limits,
    Member,
    Uniform,
    meet_budget,
    parse_budget,
)
from mmsharp.pruning.allocation import floor_masks
from mmsharp.pruning.allocation.budget import reachable
from mmsharp.registry import ALLOCATIONS, build_part

ALLOCATIONS.import_from_location()
every = pytest.mark.parametrize('name', sorted(ALLOCATIONS.module_dict))
SIZES = (6, 16, 40)
WIDTHS = (9.0, 1.0, 3.0)


def fraction(keep):
    """A cost with a constant and a product of two groups, as real layers have."""
    cost = 50 + sum(width * float(mask.sum()) for width, mask in zip(WIDTHS, keep))
    cost += float(keep[0].sum() * keep[1].sum())
    return cost / (50 + sum(width * size for width, size in zip(WIDTHS, SIZES)) + 6 * 16)


def start(seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.rand(size, generator=generator) + 0.1 for size in SIZES]
    return scores, [torch.ones(size, dtype=torch.bool) for size in SIZES]


def allocate(allocation, scores, keep, *budget):
    """As the pruner does: an allocation that wants to see weights is shown some first."""
    if hasattr(allocation, 'prepare'):
        torch.manual_seed(0)
        sizes = [len(mask) for mask in keep]
        model = nn.Sequential(*(nn.Linear(20, size) for size in sizes))
        everything = [torch.arange(size) for size in sizes]
        groups = [
            ChannelGroup(f'{number}', size, (Member(f'{number}', 'out', every_one, every_one),))
            for number, (size, every_one) in enumerate(zip(sizes, everything))
        ]
        allocation.prepare(model, groups, keep)
    return allocation(scores, keep, *budget)


@every
@pytest.mark.parametrize('target', [1.0, 0.8, 0.6])
@pytest.mark.parametrize(
    'limits', [Limits(), Limits(3), Limits(1, 4), Limits(5, 4), Limits(min_share=0.3, sizes=SIZES)]
)
def test_budget_is_met_within_the_limits(name, target, limits):
    """At most the target, each group within its limits, and its best channels kept."""
    scores, alive = start()
    keep = allocate(build_part(ALLOCATIONS, {'type': name}), scores, alive, target, fraction, limits)
    assert fraction(keep) <= target
    for score, mask, size in zip(scores, keep, SIZES):
        kept = int(mask.sum())
        assert kept == size or kept % limits.round_to == 0
        assert kept >= min(size, limits.min_channels)
        assert kept >= limits.min_share * size
        assert kept == size or score[mask].min() >= score[~mask].max()


@every
def test_no_more_than_needed_is_removed(name):
    """With one channel more the budget would be missed, for every group that lost some."""
    scores, alive = start()
    keep = allocate(build_part(ALLOCATIONS, {'type': name}), scores, alive, 0.6, fraction, Limits())
    more = []
    for number, (score, mask) in enumerate(zip(scores, keep)):
        if not mask.all():
            grown = [other.clone() for other in keep]
            grown[number][score.masked_fill(mask, -1).argmax()] = True
            more.append(fraction(grown) > 0.6)
    assert any(more)


@every
def test_dead_channels_stay_dead_and_do_not_count_for_others(name):
    """A second allocation to a smaller budget only removes, whatever the scores say now."""
    scores, alive = start()
    allocation = build_part(ALLOCATIONS, {'type': name})
    first = allocate(allocation, scores, alive, 0.8, fraction, Limits(2, 2))
    second = allocate(allocation, start(1)[0], first, 0.5, fraction, Limits(2, 2))
    assert all(bool((new <= old).all()) for new, old in zip(second, first))
    assert fraction(second) <= 0.5


@every
def test_unreachable_budget_says_what_can_be_reached(name):
    """The smallest reachable fraction is the one with every group at its limit."""
    scores, alive = start()
    smallest = fraction([torch.arange(size) < 4 for size in SIZES])
    allocation = build_part(ALLOCATIONS, {'type': name})
    with pytest.raises(MmsharpError, match=r'smallest kept fraction is 0\.\d+') as no:
        allocate(allocation, scores, alive, 0.1, fraction, Limits(4))
    named = float(str(no.value).split('fraction is ')[1][:6])
    assert smallest <= named < smallest + 1e-4
    assert fraction(allocate(allocation, scores, alive, named, fraction, Limits(4))) <= named


def test_the_fraction_that_is_named_is_never_too_small():
    """Rounding goes up, also where a product of floats is rounded down."""
    for number in range(1, 2001):
        for smallest in (number / 1e4, math.nextafter(number / 1e4, 1), number / 2001):
            assert smallest <= float(reachable(smallest)) < smallest + 1.001e-4


def test_uniform_keeps_the_same_share():
    """Each group keeps the same fraction, up to one channel."""
    scores, alive = start()
    keep = Uniform()(scores, alive, 0.6, fraction, Limits())
    shares = [int(mask.sum()) / size for mask, size in zip(keep, SIZES)]
    assert max(shares) - min(shares) <= 1 / min(SIZES)


def test_global_ignores_the_scale_of_a_group():
    """Multiplying a group's scores by a constant changes nothing, unless the normaliser is none."""
    scores, alive = start()
    scaled = [score * factor for score, factor in zip(scores, (1e-3, 1.0, 1e3))]
    for normaliser in ('mean', 'max', 'l2'):
        allocation = Global(normaliser)
        first, second = (allocation(s, alive, 0.6, fraction, Limits()) for s in (scores, scaled))
        assert all(torch.equal(one, other) for one, other in zip(first, second))
    lost = [int((~mask).sum()) for mask in Global('none')(scaled, alive, 0.6, fraction, Limits())]
    assert lost[0] == SIZES[0] - 1
    assert lost[2] == 0


def test_one_threshold_over_all_groups():
    """Without limits, every kept normalised score is at least every removed one."""
    scores, alive = start()
    keep = Global('none')(scores, alive, 0.6, fraction, Limits())
    everything, mask = torch.cat(scores), torch.cat(keep)
    assert everything[mask].min() >= everything[~mask].max()


def test_equal_scores_are_no_trouble():
    """Ties go in the groups' order, and any budget is still met."""
    _, alive = start()
    keep = meet_budget([torch.ones(size) for size in SIZES], alive, 0.6, fraction, Limits())
    assert fraction(keep) <= 0.6


@pytest.mark.parametrize(
    'budget',
    [None, 0.5, {}, {'params': 0.5, 'macs': 0.5}, {'flops': 0.5}, {'params': 0}, {'params': 1.1}, {'params': '0.5'},
     {'params': True}, {'params': float('nan')}],
)  # fmt: skip
def test_bad_budgets_are_refused(budget):
    """Exactly one known resource, a fraction in (0, 1]."""
    with pytest.raises(MmsharpError, match='budget'):
        parse_budget(budget)


def test_a_budget_of_flops_is_told_what_is_meant():
    """The same share of multiply-accumulates."""
    with pytest.raises(MmsharpError, match=r'dict\(macs=0.4\): a share of FLOPs'):
        parse_budget(dict(flops=0.5))


@pytest.mark.parametrize('limits', [{'min_channels': 0}, {'round_to': 0}, {'round_to': 2.0}, {'min_channels': True}])
def test_bad_limits_are_refused(limits):
    """Positive integers."""
    with pytest.raises(MmsharpError, match='expected a positive integer'):
        Limits(**limits)


@pytest.mark.parametrize('share', [-0.1, 1.1, True, '0.1', float('nan')])
def test_bad_shares_are_refused(share):
    """By name."""
    with pytest.raises(MmsharpError, match='min_share is'):
        Limits(min_share=share)


@every
def test_a_share_is_of_all_channels_not_of_those_alive(name):
    """From step to step each group keeps as many; a budget below is refused with what to lower."""
    scores, keep = start()
    limits = Limits(min_share=0.5, sizes=SIZES)
    for target in (0.8, 0.55):
        keep = allocate(build_part(ALLOCATIONS, {'type': name}), scores, keep, target, fraction, limits)
        assert all(int(mask.sum()) >= 0.5 * size for mask, size in zip(keep, SIZES))
    with pytest.raises(MmsharpError, match=r'min_share=0\.5'):
        allocate(build_part(ALLOCATIONS, {'type': name}), scores, keep, 0.3, fraction, limits)


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('target', [0.4, 0.6, 0.8])
def test_the_knapsack_is_the_best_there_is(seed, target):
    """With additive costs: no other choice of prefixes within the budget is worth more, by trying all."""
    generator = torch.Generator().manual_seed(seed)
    sizes, widths = (3, 4, 5), (5.0, 1.0, 2.0)
    scores = [torch.rand(size, generator=generator) + 0.05 for size in sizes]
    alive = [torch.ones(size, dtype=torch.bool) for size in sizes]

    def additive(keep):
        return sum(w * float(m.sum()) for w, m in zip(widths, keep)) / sum(w * s for w, s in zip(widths, sizes))

    keep = Knapsack('none')(scores, alive, target, additive, Limits())
    found = sum(float(score[mask].sum()) for score, mask in zip(scores, keep))
    ranked = [score.sort(descending=True).values for score in scores]
    best = 0.0
    for counts in itertools.product(*(range(1, size + 1) for size in sizes)):
        masks = [torch.arange(size) < count for size, count in zip(sizes, counts)]
        if additive(masks) <= target + 1e-9:
            best = max(best, sum(float(values[:count].sum()) for values, count in zip(ranked, counts)))
    assert found == pytest.approx(best, rel=1e-3)


def test_the_knapsack_keeps_what_costs_little():
    """Equal scores: the cheap group stays whole, where one threshold would take from both."""
    alive = [torch.ones(8, dtype=torch.bool), torch.ones(8, dtype=torch.bool)]
    scores = [torch.ones(8), torch.ones(8)]

    def cost(keep):
        return (9 * float(keep[0].sum()) + float(keep[1].sum())) / 80

    kept = [int(mask.sum()) for mask in Knapsack()(scores, alive, 0.6, cost, Limits())]
    assert kept == [4, 8]


@pytest.mark.parametrize(
    'arguments', [dict(normaliser='median'), dict(seconds=0), dict(seconds='1'), dict(seconds=True)]
)
def test_bad_knapsacks_are_refused(arguments):
    """By name."""
    with pytest.raises(MmsharpError, match=next(iter(arguments))):
        Knapsack(**arguments)


def test_rounding_counts_the_channels_of_layers():
    """With steps of eight, a head of twelve channels goes two at a time and one of sixteen by itself."""
    keep = [torch.ones(6, dtype=torch.bool)] * 3
    share = lambda masks: sum(int(mask.sum()) for mask in masks) / 18  # noqa: E731
    scores = [torch.arange(6.0)] * 3
    masks = meet_budget(scores, keep, 0.6, share, Limits(round_to=8, widths=(1, 12, 16)))
    assert [int(mask.sum()) for mask in masks] == [6, 2, 2]
    assert [int(mask.sum()) for mask in floor_masks(keep, Limits(round_to=8, widths=(1, 12, 16)))] == [6, 2, 1]


@every
@pytest.mark.parametrize('target', [0.95, 0.8, 0.6])
@pytest.mark.parametrize(('heads', 'limits'), [(3, Limits(1, 8)), (8, Limits(2, 8)), (12, Limits(1, 8))])
def test_heads_go_one_by_one(name, target, heads, limits):
    """A head of eight channels is a step of eight by itself: every count is open, and the budget is nearly used up."""
    limits = Limits(limits.min_channels, limits.round_to, widths=(8, 1, 8))
    sizes, costs = (heads, 8 * heads, heads), (8.0, 1.0, 8.0)
    keep = [torch.ones(size, dtype=torch.bool) for size in sizes]
    generator = torch.Generator().manual_seed(heads)
    scores = [torch.rand(size, generator=generator) + 0.1 for size in sizes]

    def share(masks):
        total = sum(cost * size for cost, size in zip(costs, sizes))
        return sum(cost * float(mask.sum()) for cost, mask in zip(costs, masks)) / total

    masks = allocate(build_part(ALLOCATIONS, {'type': name}), scores, keep, target, share, limits)
    assert target - 1 / (3 * heads) - 1e-9 <= share(masks) <= target  # one head, or eight channels, at a time


def test_a_head_is_worth_the_channels_that_it_is():
    """Under a normaliser, of two groups alike but that one comes in heads neither goes before the other."""
    limits = Limits(widths=(8, 1))
    keep = [torch.ones(4, dtype=torch.bool), torch.ones(32, dtype=torch.bool)]
    scores = [torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([4.0, 3.0, 2.0, 1.0]).repeat_interleave(8)]

    def share(masks):
        return (8 * float(masks[0].sum()) + float(masks[1].sum())) / 64

    masks = Knapsack()(scores, keep, 0.75, share, limits)
    assert [int(mask.sum()) for mask in masks] == [3, 24]
