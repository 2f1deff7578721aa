"""One threshold over the whole model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.pruning.allocation.budget import Fraction, Limits, meet_budget
from mmsharp.registry import ALLOCATIONS

NORMALISERS: dict[str, Callable[[Tensor], Tensor]] = {
    'mean': lambda scores: scores.mean(),
    'max': lambda scores: scores.max(),
    'l2': lambda scores: torch.linalg.vector_norm(scores),
    'none': lambda scores: torch.ones(()),
}


@ALLOCATIONS.register_module()
class Global:
    """The lowest scores of all groups go, after each group's scores are divided by one number of their own.

    Without that number, layers with many small weights would go whole: filters of different layers have norms of
    different scale. Torch-Pruning's ``global_pruning`` divides by the mean too.

    Args:
        normaliser: ``'mean'`` (default), ``'max'`` or ``'l2'`` of the group's living scores, or ``'none'``.

    Raises:
        MmsharpError: The normaliser is unknown; when called, a target that cannot be reached.

    Example:
        >>> count = lambda masks: sum(int(mask.sum()) for mask in masks) / 4
        >>> alive = [torch.ones(2, dtype=torch.bool), torch.ones(2, dtype=torch.bool)]
        >>> scores = [torch.tensor([10.0, 30.0]), torch.tensor([0.9, 1.1])]
        >>> [mask.tolist() for mask in Global()(scores, alive, 0.75, count, Limits())]
        [[False, True], [True, True]]
    """

    def __init__(self, normaliser: str = 'mean') -> None:
        if normaliser not in NORMALISERS:
            raise MmsharpError(f'Global: normaliser is {normaliser!r}; accepted: {", ".join(NORMALISERS)}')
        self.normaliser = normaliser

    def __call__(
        self, scores: Sequence[Tensor], keep: Sequence[Tensor], target: float, fraction: Fraction, limits: Limits
    ) -> list[Tensor]:
        """New masks, a subset of ``keep``; see :func:`~mmsharp.pruning.allocation.meet_budget`."""
        normaliser = NORMALISERS[self.normaliser]
        scaled = [
            score / normaliser(score[mask]).clamp(min=torch.finfo(score.dtype).tiny)
            for score, mask in zip(scores, keep)
        ]
        return meet_budget(scaled, keep, target, fraction, limits)
