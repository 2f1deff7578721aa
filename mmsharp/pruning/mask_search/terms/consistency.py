"""Consistency of the soft masks with the binary ones that will be deployed."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search.outputs import discrepancy
from mmsharp.pruning.mask_search.passes import Passes
from mmsharp.pruning.mask_search.terms.term import Term
from mmsharp.registry import MASK_TERMS


@MASK_TERMS.register_module()
class Consistency(Term):
    """``mean over images of || p(x; C) - p(x; H(C)) ||_inf``, straight through the binarisation ``H``.

    That the objective has such a term is reported of C-SAM's predecessor; the formula is our reading.

    Args:
        weight: As in :class:`Term`.
    """

    passes: ClassVar[frozenset[str]] = frozenset({'hard'})

    def value(self, passes: Passes) -> Tensor:
        """The mean discrepancy of the clean and the hard pass.

        Raises:
            MmsharpError: There is no hard pass.
        """
        if passes.hard is None:
            raise MmsharpError('Consistency: it needs a pass with the binary masks')
        return discrepancy(passes.clean, passes.hard).mean()
