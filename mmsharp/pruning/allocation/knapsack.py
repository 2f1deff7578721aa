"""The most important channels that the budget can pay for.

Shen et al. (NeurIPS 2022), "Structural Pruning via Latency-Saliency Knapsack" (HALP), arXiv 2210.06659, equation 3:
chunks of channels are items with a value and a cost, and what is kept is the best knapsack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_matrix
from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.pruning.allocation.budget import Fraction, Limits, floor_masks, reachable
from mmsharp.pruning.allocation.global_threshold import NORMALISERS
from mmsharp.registry import ALLOCATIONS

CHUNKS = 32
"""Most chunks that a group is cut into; what is left of the budget is filled up by those of the limits."""
ROUNDS = 12
"""Knapsacks of other capacities that are tried, because costs of chunks depend on which others stay."""
GAP = 1e-3
"""Relative distance to the best knapsack at which the search for it ends: a smaller one takes long."""


@dataclass(frozen=True)
class _Item:
    """A chunk of a group: ``kept`` channels stay with it, ``before`` without it."""

    group: int
    before: int
    kept: int
    value: float
    cost: float


@ALLOCATIONS.register_module()
class Knapsack:
    """``max sum_k value_k x_k`` with ``sum_k cost_k x_k <= capacity`` over chunks of channels, ``x_k`` in {0, 1}.

    A chunk is ``round_to`` channels of a group (more in large groups), best ones first; its value is the sum of their
    scores, its cost what the budget's resource gains where the chunk goes and all else stays. So a group whose channels
    cost little for what they are worth keeps more of them than under one threshold. A chunk stays only if all better
    ones of its group do. The program is solved by SciPy's HiGHS. Costs are not additive (a layer's depends on two
    groups), so the capacity is searched until the true cost of what is kept meets the budget, and what is left of it is
    filled up.

    Departures from HALP: costs come from the budget's own resource, whatever it is (``latency`` with a table measured
    on a device is HALP's case); groups are those of coupled channels.

    Args:
        normaliser: What divides a group's scores, as in :class:`Global`; they are then multiplied by the group's width,
            so that a head counts as the channels that it is. ``'none'`` for scores that compare over the whole model,
            such as Taylor's.
        seconds: Limit for one program; the best found until then is taken.

    Raises:
        MmsharpError: An argument is not as described; when called, a target that cannot be reached.

    Example:
        >>> cost = lambda masks: (3 * int(masks[0].sum()) + int(masks[1].sum())) / 8
        >>> alive = [torch.ones(2, dtype=torch.bool), torch.ones(2, dtype=torch.bool)]
        >>> scores = [torch.tensor([3.0, 2.0]), torch.tensor([1.5, 1.0])]
        >>> [mask.tolist() for mask in Knapsack('none')(scores, alive, 0.7, cost, Limits())]
        [[True, False], [True, True]]
    """

    def __init__(self, normaliser: str = 'mean', seconds: float = 10.0) -> None:
        if normaliser not in NORMALISERS:
            raise MmsharpError(f'Knapsack: normaliser is {normaliser!r}; accepted: {", ".join(NORMALISERS)}')
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
            raise MmsharpError(f'Knapsack: seconds is {seconds!r}, expected a positive number')
        self.normaliser = normaliser
        self.seconds = float(seconds)

    def __call__(
        self, scores: Sequence[Tensor], keep: Sequence[Tensor], target: float, fraction: Fraction, limits: Limits
    ) -> list[Tensor]:
        """New masks, a subset of ``keep``, whose ``fraction`` is at most ``target``."""
        widths = limits.widths if limits.widths and self.normaliser != 'none' else [1] * len(keep)
        values = [
            width * score.double() / NORMALISERS[self.normaliser](score[mask]).double().clamp(min=1e-300)
            for score, mask, width in zip(scores, keep, widths)
        ]
        ranked = [
            torch.where(mask, value, torch.full_like(value, -math.inf)).sort(descending=True, stable=True).indices
            for value, mask in zip(values, keep)
        ]
        least = floor_masks(keep, limits)
        smallest = fraction(least)
        if smallest > target:
            raise MmsharpError(
                f'budget {target:.4g} cannot be reached: with {limits} the smallest kept fraction is '
                f'{reachable(smallest)}; ask for at least that, or lower these'
            )
        present = fraction(keep)
        if present <= target:
            return [mask.clone() for mask in keep]
        counts = [int(mask.sum()) for mask in least]
        items = _items(values, ranked, keep, counts, fraction, limits, present, CHUNKS)

        def masks_of(kept: Sequence[int]) -> list[Tensor]:
            return [
                torch.zeros_like(mask).index_fill_(0, order[:count], True)
                for mask, order, count in zip(keep, ranked, kept)
            ]

        best = counts
        low, high = 0.0, sum(item.cost for item in items)
        capacity = max(low, high - (present - target))
        for _ in range(ROUNDS):
            found = self._solve(items, counts, capacity)
            if fraction(masks_of(found)) <= target:
                best, low = found, capacity
            else:
                high = capacity
            capacity = (low + high) / 2
        finest = _items(values, ranked, keep, counts, None, limits, present, None)
        return masks_of(_fill([*items, *finest], best, lambda kept: fraction(masks_of(kept)) <= target))

    def _solve(self, items: Sequence[_Item], counts: Sequence[int], capacity: float) -> list[int]:
        """Channels to keep per group."""
        kept = list(counts)
        if not items:
            return kept
        size = len(items)
        after = [number for number in range(1, size) if items[number].group == items[number - 1].group]
        prefix = csr_matrix(
            (
                np.tile((1.0, -1.0), len(after)),
                (np.repeat(np.arange(len(after)), 2), np.array([(n, n - 1) for n in after], dtype=int).ravel()),
            ),
            shape=(len(after), size),
        )
        constraints = [LinearConstraint(np.array([[item.cost for item in items]]), -np.inf, capacity)]
        if after:
            constraints.append(LinearConstraint(prefix, -np.inf, 0))
        solved = milp(
            -np.array([item.value for item in items]),
            constraints=constraints,
            integrality=np.ones(size),
            bounds=Bounds(0, 1),
            options=dict(time_limit=self.seconds, mip_rel_gap=GAP),
        )
        if solved.x is not None:
            for item, chosen in zip(items, solved.x):
                if chosen > 0.5:
                    kept[item.group] = max(kept[item.group], item.kept)
        return kept


def _items(
    values: Sequence[Tensor],
    ranked: Sequence[Tensor],
    keep: Sequence[Tensor],
    counts: Sequence[int],
    fraction: Fraction | None,
    limits: Limits,
    present: float,
    most: int | None,
) -> list[_Item]:
    """The chunks above the floor's ``counts`` by group, better ones first; without a cost where no ``fraction`` is."""
    items = []
    for group, (value, order, mask) in enumerate(zip(values, ranked, keep)):
        alive = int(mask.sum())
        count = counts[group]
        step = 1 if most is None else math.ceil(alive / most)
        while count < alive:
            following = limits.allowed_in(group, count + step, alive)
            cost = 0.0
            if fraction is not None:
                without = [other if number != group else mask.clone() for number, other in enumerate(keep)]
                without[group][order[count:following]] = False
                cost = max(0.0, present - fraction(without))
            worth = max(0.0, float(value[order[count:following]].sum()))
            items.append(_Item(group, count, following, worth, cost))
            count = following
    return items


def _fill(items: Sequence[_Item], kept: Sequence[int], fits: Callable[[list[int]], bool]) -> list[int]:
    """Add the chunks of the highest value per channel that the budget still pays for."""
    filled = list(kept)
    waiting = sorted(items, key=lambda item: -item.value / (item.kept - item.before))
    grown = True
    while grown:
        grown = False
        for item in waiting:
            if filled[item.group] == item.before:
                candidate = [*filled[: item.group], item.kept, *filled[item.group + 1 :]]
                if fits(candidate):
                    filled, grown = candidate, True
    return filled
