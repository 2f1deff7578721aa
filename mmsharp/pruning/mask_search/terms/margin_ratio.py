"""Margin ratio: the condition of CC-Cert as something to minimise."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search.drawn_transforms import DrawnTransforms
from mmsharp.pruning.mask_search.outputs import discrepancy
from mmsharp.pruning.mask_search.passes import Passes
from mmsharp.pruning.mask_search.terms.term import Term
from mmsharp.registry import MASK_TERMS


@MASK_TERMS.register_module()
class MarginRatio(Term):
    """``mean over images of min(Z / (d + eta), limit)``: where ``Z < d``, the transformed image is classified alike.

    ``Z = ||p(x) - p(T x)||_inf`` and ``d = (p_1 - p_2) / 2`` of the two largest probabilities, both with perturbed
    masks; ``Z < d`` is CC-Cert's sufficient condition (Pautov et al. 2022, arXiv 2109.10696), which C-SAM
    (arXiv 2601.20301) quotes. That C-SAM's predecessor has a margin ratio is reported; the formula, ``eta`` and the
    limit are our reading, and so are the transforms: its own are not known.

    Args:
        weight: As in :class:`Term`.
        transform: ``T``, one or several configs of the image transforms that certification knows, drawn anew for each
            image; by default those of :class:`~mmsharp.pruning.mask_search.DrawnTransforms`.
        eta: Bounds the slope where two classes tie to ``1 / eta ** 2``; if tiny, a few such images rule every step.
        limit: Largest ratio of an image that counts, so that near ties do not rule the mean.

    Raises:
        MmsharpError: A setting is out of range.
    """

    passes: ClassVar[frozenset[str]] = frozenset({'perturbed', 'transformed'})
    ascends: ClassVar[bool] = True
    for_detectors: ClassVar[bool] = False

    def __init__(self, weight: float = 1.0, transform: Any = None, eta: float = 0.1, limit: float = 10.0) -> None:
        super().__init__(weight)
        self.transform = DrawnTransforms(*([] if transform is None else [transform]))
        for name, value in (('eta', eta), ('limit', limit)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise MmsharpError(f'MarginRatio: {name} is {value!r}, expected a positive number')
        self.eta, self.limit = float(eta), float(limit)

    def value(self, passes: Passes) -> Tensor:
        """The mean ratio.

        Raises:
            MmsharpError: There is no transformed pass, or the head gives one class.
        """
        if passes.transformed is None:
            raise MmsharpError('MarginRatio: it needs a pass of transformed images')
        if passes.perturbed.scores.shape[2] < 2:
            raise MmsharpError(
                'MarginRatio: the head gives one class, and a margin is between two; leave the term out of '
                'search.losses, margin_ratio=None, or give the head two classes'
            )
        best = passes.perturbed.scores[:, 0].topk(2, dim=1).values
        margin = (best[:, 0] - best[:, 1]) / 2
        return (discrepancy(passes.perturbed, passes.transformed) / (margin + self.eta)).clamp(max=self.limit).mean()
