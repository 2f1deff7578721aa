"""The same share of every group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmsharp.pruning.allocation.budget import Fraction, Limits, meet_budget
from mmsharp.registry import ALLOCATIONS


@ALLOCATIONS.register_module()
class Uniform:
    """Every group keeps the same fraction of its channels, its best ones; the fraction is what meets the budget.

    Raises:
        MmsharpError: When called with a target that cannot be reached.

    Example:
        >>> count = lambda masks: sum(int(mask.sum()) for mask in masks) / 6
        >>> alive = [torch.ones(2, dtype=torch.bool), torch.ones(4, dtype=torch.bool)]
        >>> masks = Uniform()([torch.tensor([9.0, 8.0]), torch.arange(4.0)], alive, 0.5, count, Limits())
        >>> [mask.tolist() for mask in masks]
        [[True, False], [False, False, True, True]]
    """

    def __call__(
        self, scores: Sequence[Tensor], keep: Sequence[Tensor], target: float, fraction: Fraction, limits: Limits
    ) -> list[Tensor]:
        """New masks, a subset of ``keep``; see :func:`~mmsharp.pruning.allocation.meet_budget`."""
        shares = [_rank_among_all(score, mask) for score, mask in zip(scores, keep)]
        return meet_budget(shares, keep, target, fraction, limits)


def _rank_among_all(score: Tensor, mask: Tensor) -> Tensor:
    """``(rank + 1) / channels``, dead channels lowest: the share that is gone when this channel is the next to go."""
    lowered = torch.where(mask, score, torch.full_like(score, -torch.inf))
    ranks = torch.empty_like(score)
    ranks[lowered.sort(stable=True).indices] = torch.arange(1.0, len(score) + 1).to(score)
    return ranks / len(score)
