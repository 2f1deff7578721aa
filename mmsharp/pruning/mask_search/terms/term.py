"""The contract of a loss term."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search.drawn_transforms import DrawnTransforms
from mmsharp.pruning.mask_search.passes import Passes


class Term:
    """A summand of the loss, with its weight.

    Attributes:
        passes: Which passes beside the clean one it looks at: of ``'perturbed'``, ``'transformed'``, ``'hard'`` and
            ``'task'``; the task's losses and the transformed images are with perturbed masks.
        ascends: Whether its gradient in the perturbation says where the loss rises, at no perturbation: of terms that
            see the perturbation and are not at their minimum without.
        for_detectors: Whether it is defined for detectors.
        transform: Makes the images of its transformed pass; ``None`` of terms without one.

    Args:
        weight: What the term is multiplied by; at 0 it is not computed.

    Raises:
        MmsharpError: The weight is negative or no finite number.
    """

    passes: ClassVar[frozenset[str]] = frozenset({'perturbed'})
    ascends: ClassVar[bool] = False
    for_detectors: ClassVar[bool] = True
    transform: DrawnTransforms | None = None

    def __init__(self, weight: float = 1.0) -> None:
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
            raise MmsharpError(f'{type(self).__name__}: weight is {weight!r}, expected a finite number of at least 0')
        self.weight = float(weight)

    def value(self, passes: Passes) -> Tensor:
        """The term without its weight, a scalar."""
        raise NotImplementedError

    def losses(self, name: str, passes: Passes) -> dict[str, Any]:
        """What the model's ``mode='loss'`` returns for it: the weighted value as ``loss_<name>``."""
        return {f'loss_{name}': self.weight * self.value(passes)}


def total_loss(losses: Mapping[str, Any]) -> Tensor:
    """The sum of all losses as MMEngine's ``parse_losses`` takes it: of the means of entries with ``loss`` in the name.

    Example:
        >>> total_loss({'loss_a': torch.tensor([1.0, 3.0]), 'loss_b': [torch.tensor(1.0)], 'accuracy': 90})
        tensor(3.)
    """
    total = torch.zeros(())
    for name, value in losses.items():
        if 'loss' in name:
            for part in value if isinstance(value, (list, tuple)) else [value]:
                total = total.to(part) + part.mean()
    return total
