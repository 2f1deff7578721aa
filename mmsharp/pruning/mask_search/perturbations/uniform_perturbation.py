"""Uniform noise on masks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmsharp.pruning.mask_search.perturbations.perturbation import Perturbation, validate_rho
from mmsharp.registry import MASK_PERTURBATIONS


@MASK_PERTURBATIONS.register_module(name='Uniform')
class UniformPerturbation(Perturbation):
    """``xi ~ U(-rho, rho)`` per entry, drawn anew at every step from torch's global generator.

    Source: a review of C-SAM (arXiv 2601.20301) says that the mask is a random variable perturbed by uniform noise; the
    width of the noise is not known, 0.05 is ours.

    Args:
        rho: Half of the width.

    Raises:
        MmsharpError: ``rho`` is negative or no finite number.

    Example:
        >>> moved = UniformPerturbation(rho=0.05)({'conv.weight': torch.ones(1000)})['conv.weight']
        >>> bool(moved.abs().max() <= 0.05), bool(moved.abs().max() > 0.04)
        (True, True)
    """

    def __init__(self, rho: float = 0.05) -> None:
        self.rho = validate_rho('UniformPerturbation', rho)

    @torch.no_grad()
    def __call__(
        self, variables: Mapping[str, Tensor], gradients: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Noise of each variable's shape."""
        return {
            name: (torch.rand_like(variable) * 2 - 1) * self.rho if self.rho else torch.zeros_like(variable)
            for name, variable in variables.items()
        }
