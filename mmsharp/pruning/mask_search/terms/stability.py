"""Structural stability: sharpness in the space of masks."""

from __future__ import annotations

from torch import Tensor

from mmsharp.pruning.mask_search.outputs import discrepancy
from mmsharp.pruning.mask_search.passes import Passes
from mmsharp.pruning.mask_search.terms.term import Term
from mmsharp.registry import MASK_TERMS


@MASK_TERMS.register_module()
class Stability(Term):
    """``mean over images of || p(x; C) - p(x; C + xi) ||_inf``.

    That the objective has such a term is reported of C-SAM (arXiv 2601.20301); the formula is our reading. What differs
    of detectors is in :func:`~mmsharp.pruning.mask_search.discrepancy`.

    Args:
        weight: As in :class:`Term`.
    """

    def value(self, passes: Passes) -> Tensor:
        """The mean discrepancy of the clean and the perturbed pass."""
        return discrepancy(passes.clean, passes.perturbed).mean()
