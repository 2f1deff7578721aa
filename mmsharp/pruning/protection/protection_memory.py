"""What a protection is worth at later pruning steps: without a memory the next step takes again what was brought back.

A channel is zeroed because its score is low, and its score is as low at the next step. The protection would have to
save it anew each time, and the last step, which nothing follows, would remove it after all. That PSAP carries its
protection on is not known; that it must, if important filters are not to be pruned in the end, is our reading.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError


class ProtectionMemory:
    """Evidence for channels, which every protection adds to and every step lets fade.

    After a step, ``e_j <- decay * (e_j + p_j)`` with ``p_j = 1`` for a channel that came back and 0 otherwise. At the
    next one, scores are compared as ``s_j + weight * e_j * mean(s)``, the mean over the group: a channel that has come
    back is not taken again until its evidence has faded, and is then put to the test again.

    Args:
        decay: In [0, 1); 0 forgets at once.
        weight: Worth of one protection in mean scores of the group, not negative; 0 keeps the scores as they are.

    Raises:
        MmsharpError: An argument is not as described.

    Example:
        >>> memory = ProtectionMemory(decay=0.5, weight=1.0)
        >>> memory.update([torch.tensor([True, False, False])])
        >>> memory.raised([torch.tensor([1.0, 2.0, 3.0])])[0].tolist()
        [2.0, 2.0, 3.0]
        >>> memory.update([torch.tensor([False, False, False])])
        >>> memory.raised([torch.tensor([1.0, 2.0, 3.0])])[0].tolist()
        [1.5, 2.0, 3.0]
    """

    def __init__(self, decay: float, weight: float) -> None:
        if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise MmsharpError(f'memory is {decay!r}, expected a number from 0, below 1')
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
            raise MmsharpError(f'weight is {weight!r}, expected a number that is not negative')
        self.decay = float(decay)
        self.weight = float(weight)
        self.evidence: list[Tensor] = []
        """Float64 of shape ``(channels,)`` per group, on the CPU; nothing before the first step. Its own state."""

    def update(self, protected: Sequence[Tensor]) -> None:
        """Take in what came back.

        Args:
            protected: Bool of shape ``(channels,)`` per group.
        """
        before = self.evidence or [torch.zeros(len(mask), dtype=torch.float64) for mask in protected]
        self.evidence = [self.decay * (old + mask.cpu()) for old, mask in zip(before, protected)]

    def raised(self, scores: Sequence[Tensor]) -> list[Tensor]:
        """The scores that are compared: float, shape ``(channels,)`` per group, none below what was given."""
        if not self.evidence:
            return list(scores)
        return [
            score + (self.weight * evidence * score.double().mean().clamp(min=0)).to(score)
            for score, evidence in zip(scores, self.evidence)
        ]


def held(keep: Tensor, scores: Tensor) -> int:
    """How many kept channels have a lower score than one that goes: those that evidence has saved.

    Args:
        keep: Bool of shape ``(channels,)``.
        scores: The criterion's own, same shape.

    Example:
        >>> held(torch.tensor([True, False, False, True]), torch.tensor([1.0, 2.0, 0.5, 3.0]))
        1
    """
    gone = scores[~keep]
    return int((scores[keep] < gone.max()).sum()) if len(gone) else 0
