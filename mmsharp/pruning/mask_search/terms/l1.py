"""L1: fewer and smaller entries."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mmsharp.pruning.mask_search.passes import Passes
from mmsharp.pruning.mask_search.terms.term import Term
from mmsharp.registry import MASK_TERMS


@MASK_TERMS.register_module()
class L1(Term):
    """``(1 / N) sum_i |C_i|`` over the N entries of all masks.

    An L1 penalty is reported of C-SAM's predecessor; that it is a mean, and its weight, are ours. It pulls all entries
    alike, so that it changes no order but through the ends of [0, 1], and each by little, as one of very many.

    Args:
        weight: As in :class:`Term`; 0.01 by default.

    Example:
        >>> from mmsharp.pruning.mask_search import Outputs, Passes
        >>> outputs = Outputs(torch.zeros(1, 1, 2))
        >>> masks = {'a': torch.tensor([1.0, 0.5]), 'b': torch.tensor([0.0])}
        >>> L1().value(Passes(outputs, outputs, None, None, None, masks))
        tensor(0.5000)
    """

    passes: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, weight: float = 0.01) -> None:
        super().__init__(weight)

    def value(self, passes: Passes) -> Tensor:
        """The mean magnitude of the masks' entries."""
        return torch.cat([mask.flatten() for mask in passes.masks.values()]).abs().mean()
