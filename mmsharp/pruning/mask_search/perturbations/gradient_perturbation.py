"""Sharpness-aware minimisation on masks alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search.perturbations.perturbation import Perturbation, validate_rho
from mmsharp.registry import MASK_PERTURBATIONS


@MASK_PERTURBATIONS.register_module(name='Gradient')
class GradientPerturbation(Perturbation):
    """``xi = rho * g / (||g||_2 + 1e-12)``, with ``g`` the gradient in the masks and one norm over all of them.

    Source: Foret et al. 2021 (SAM, arXiv 2010.01412), equation 2, with masks in place of weights, as T. Huang's
    MaskPerturbation does it on scores. That C-SAM itself ascends is not shown by anything that could be read: this is
    the ablation, and a reading in case it does.

    ``g`` is the gradient of the terms that see the perturbation and rise with it, ``Task`` and ``MarginRatio``, where
    SAM proper would take that of the whole loss; this departure is ours. ``Stability`` is zero at no perturbation, its
    minimum, and has no gradient there; ``Consistency`` and ``L1`` look at the masks that are not perturbed, so that
    they do not change with ``xi``. All terms are in the gradient of the step.

    Args:
        rho: The radius; 2.0 is MaskPerturbation's for the scores of a ResNet-18. Channel masks are far fewer, and want
            a smaller one.

    Raises:
        MmsharpError: ``rho`` is negative or no finite number; when called, there are no gradients.

    Example:
        >>> ones = {'conv.weight': torch.ones(2)}
        >>> GradientPerturbation(rho=1.0)(ones, {'conv.weight': torch.tensor([3.0, 4.0])})['conv.weight']
        tensor([0.6000, 0.8000])
    """

    needs_gradient = True

    def __init__(self, rho: float = 2.0) -> None:
        self.rho = validate_rho('GradientPerturbation', rho)

    @torch.no_grad()
    def __call__(
        self, variables: Mapping[str, Tensor], gradients: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The ascent; zeros where the gradient is not finite."""
        if gradients is None:
            raise MmsharpError('GradientPerturbation: it was called without gradients')
        norm = torch.stack([gradient.float().norm() for gradient in gradients.values()]).norm()
        factor = torch.where(norm.isfinite(), self.rho / (norm + 1e-12), torch.zeros_like(norm))
        return {name: torch.nan_to_num(gradients[name].float()) * factor for name in variables}
