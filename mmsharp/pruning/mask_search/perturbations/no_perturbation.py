"""No perturbation: the ablation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmsharp.pruning.mask_search.perturbations.perturbation import Perturbation
from mmsharp.registry import MASK_PERTURBATIONS


@MASK_PERTURBATIONS.register_module(name='None')
class NoPerturbation(Perturbation):
    """``xi = 0``: the perturbed pass is the unperturbed one and is not made again.

    Example:
        >>> NoPerturbation()({'conv.weight': torch.ones(1)})
        {'conv.weight': tensor([0.])}
    """

    moves = False

    def __call__(
        self, variables: Mapping[str, Tensor], gradients: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Zeros."""
        return {name: torch.zeros_like(variable) for name, variable in variables.items()}
