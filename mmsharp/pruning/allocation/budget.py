"""Meet a budget: given the order in which channels go, find how many have to.

An allocation only says in which order the channels of all groups would go. How far to go down that order is found by
bisection on the cost of the masks, so that any allocation meets any budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError

RESOURCES = ('params', 'macs', 'channels', 'latency')
"""What a budget can be of."""

EXAMPLE = 'dict(params=0.4)'

Fraction = Callable[[Sequence[Tensor]], float]
"""Kept fraction of the dense model's cost, from keep-masks; never rises when a channel goes."""


@dataclass(frozen=True)
class Limits:
    """How few channels a group may be left with, and in which steps.

    Args:
        min_channels: Each group keeps at least this many (all of them if it has fewer).
        min_share: Each group keeps at least this share of the channels that it has in the dense model, in [0, 1].
        round_to: Each group keeps a multiple of this in the layers that make it, or all it has. Rounding is upwards.
        widths: Per group, how many channels of a layer one channel of the group is (64 for a head of that width); 1 for
            all if empty.
        whole: Numbers of groups that keep all they have: their scores are not known.
        sizes: Per group, its channels in the dense model; without them there is no share.

    Raises:
        MmsharpError: A number of channels is no positive integer, or the share is outside [0, 1].

    Example:
        >>> Limits(min_channels=3, round_to=4).allowed(5, alive=16)
        8
        >>> Limits(min_channels=3, round_to=4).allowed(5, alive=16, width=2)
        6
    """

    min_channels: int = 1
    round_to: int = 1
    widths: tuple[int, ...] = ()
    whole: frozenset[int] = frozenset()
    min_share: float = 0.0
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        share = self.min_share
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise MmsharpError(f'min_share is {share!r}, expected the share of its channels that a group keeps, 0 to 1')
        for name in ('min_channels', 'round_to'):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise MmsharpError(f'{name} is {value!r}, expected a positive integer')

    def allowed(self, wanted: int, alive: int, width: int = 1) -> int:
        """The smallest allowed number of channels of at least ``wanted``, at most ``alive``."""
        step = self.round_to // math.gcd(self.round_to, width)
        return min(alive, math.ceil(max(wanted, self.min_channels) / step) * step)

    def allowed_in(self, group: int, wanted: int, alive: int) -> int:
        """:meth:`allowed` for a group by its number, with the group's own width; ``alive`` for one left whole.

        Example:
            >>> Limits(whole=frozenset({1})).allowed_in(0, 3, alive=8), Limits(whole=frozenset({1})).allowed_in(1, 3, 8)
            (3, 8)
            >>> Limits(min_share=0.25, sizes=(16,)).allowed_in(0, 3, alive=8)
            4
        """
        if group in self.whole:
            return alive
        least = math.ceil(self.min_share * self.sizes[group] - 1e-9) if self.sizes else 0
        return self.allowed(max(wanted, least), alive, self.widths[group] if self.widths else 1)

    def __str__(self) -> str:
        return f'min_channels={self.min_channels}, min_share={self.min_share:g}, round_to={self.round_to}'


def parse_budget(budget: Any) -> tuple[str, float]:
    """``dict(params=0.4)`` to ``('params', 0.4)``.

    Raises:
        MmsharpError: Not exactly one known resource, or a fraction outside (0, 1].

    Example:
        >>> parse_budget(dict(params=0.4))
        ('params', 0.4)
    """
    if not isinstance(budget, Mapping) or len(budget) != 1 or next(iter(budget)) not in RESOURCES:
        flops = isinstance(budget, Mapping) and 'flops' in {str(key).lower() for key in budget}
        raise MmsharpError(
            f'budget is {budget!r}, expected a dict with exactly one of {", ".join(RESOURCES)}, such as '
            f'{"dict(macs=0.4): a share of FLOPs is the same share of multiply-accumulates" if flops else EXAMPLE}'
        )
    resource, target = next(iter(budget.items()))
    if isinstance(target, bool) or not isinstance(target, (int, float)) or not 0 < target <= 1:
        raise MmsharpError(f'budget {resource} is {target!r}, expected the kept fraction of the dense model, in (0, 1]')
    return str(resource), float(target)


def floor_masks(keep: Sequence[Tensor], limits: Limits) -> list[Tensor]:
    """The smallest masks that the limits allow, for the smallest cost that can be reached.

    Example:
        >>> floor_masks([torch.ones(4, dtype=torch.bool)], Limits(min_channels=1))[0].tolist()
        [True, False, False, False]
    """
    return _keep_best([mask.float() for mask in keep], keep, [0] * len(keep), limits)


def meet_budget(
    priorities: Sequence[Tensor], keep: Sequence[Tensor], target: float, fraction: Fraction, limits: Limits
) -> list[Tensor]:
    """Remove the fewest channels, lowest priority first over all groups, so that ``fraction(masks) <= target``.

    Args:
        priorities: Per group, shape ``(channels,)``: comparable over groups. Ties go in the groups' order.
        keep: The channels still alive; others do not come back, whatever their priority.
        target: Kept fraction to meet.
        fraction: The cost.
        limits: What each group keeps at least.

    Raises:
        MmsharpError: The target is below what the limits allow, with the smallest fraction that can be reached.

    Example:
        >>> count = lambda masks: sum(int(mask.sum()) for mask in masks) / 4
        >>> alive = [torch.ones(2, dtype=torch.bool), torch.ones(2, dtype=torch.bool)]
        >>> masks = meet_budget([torch.tensor([1.0, 4.0]), torch.tensor([3.0, 2.0])], alive, 0.5, count, Limits())
        >>> [mask.tolist() for mask in masks]
        [[False, True], [True, False]]
    """
    alive = [
        torch.where(mask, priority, torch.full_like(priority, -math.inf)) for mask, priority in zip(keep, priorities)
    ]
    owner = torch.cat([torch.full((len(mask),), number) for number, mask in enumerate(keep)])
    order = owner[torch.cat(alive).sort(stable=True).indices]
    sizes = torch.tensor([len(mask) for mask in keep])

    def masks_without(count: int) -> list[Tensor]:
        wanted = sizes - torch.bincount(order[:count], minlength=len(keep))
        return _keep_best(alive, keep, wanted.tolist(), limits)

    low, high = 0, len(order)
    smallest = fraction(masks_without(high))
    if smallest > target:
        raise MmsharpError(
            f'budget {target:.4g} cannot be reached: with {limits} the smallest kept fraction is '
            f'{reachable(smallest)}; ask for at least that, or lower these'
        )
    while low < high:
        middle = (low + high) // 2
        if fraction(masks_without(middle)) <= target:
            high = middle
        else:
            low = middle + 1
    return masks_without(high)


def reachable(smallest: float) -> str:
    """The smallest kept fraction, in four digits, rounded up: asking for what is printed succeeds.

    Example:
        >>> reachable(0.1), reachable(0.10001)
        ('0.1000', '0.1001')
    """
    rounded = math.ceil(smallest * 1e4) / 1e4
    return f'{rounded if rounded >= smallest else rounded + 1e-4:.4f}'


def _keep_best(
    priorities: Sequence[Tensor], keep: Sequence[Tensor], wanted: Sequence[int], limits: Limits
) -> list[Tensor]:
    """Per group, the mask of its highest priorities, as many as the limits make of ``wanted``."""
    masks = []
    for group, (priority, mask, count) in enumerate(zip(priorities, keep, wanted)):
        allowed = limits.allowed_in(group, count, int(mask.sum()))
        best = priority.sort(descending=True, stable=True).indices[:allowed]
        masks.append(torch.zeros_like(mask).index_fill_(0, best, True))
    return masks
