"""Soft masks in [0, 1] that start from percentile-scaled magnitudes."""

from __future__ import annotations

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search.hard_masks import straight_through
from mmsharp.pruning.mask_search.parameterisations.parameterisation import Parameterisation
from mmsharp.registry import MASK_PARAMETERISATIONS


@MASK_PARAMETERISATIONS.register_module()
class Soft(Parameterisation):
    """``C`` in [0, 1], with ``C_i = clip(|w_i| / Q(|w|, tau), 0, 1)`` to begin with, per layer.

    ``Q(., tau)`` is the tau-th percentile. Source: He and Chen 2026, "Towards Compact and Robust DNNs via
    Compression-aware Sharpness Minimization" (C-SAM, arXiv 2601.20301), as machine-written reviews quote the formula;
    the paper itself could not be read. A review of its predecessor implies ``tau = 90``.

    Departure, ours: where a perturbed mask leaves [0, 1] it is clipped, and the gradient passes through the clipping as
    if it were not there, so that entries at 0 and 1 go on learning.

    Args:
        percentile: tau, above 0 and at most 100. It has to lie above the removed share in per cent: else every weight
            around the cut begins with the same mask of 1.

    Raises:
        MmsharpError: The percentile is out of range; or, for a layer, not above its removed share.

    Example:
        >>> Soft(percentile=100).initial(torch.tensor([-2.0, 1.0, 0.0]), fan_in=1).tolist()
        [1.0, 0.5, 0.0]
    """

    def __init__(self, percentile: float = 90.0) -> None:
        if isinstance(percentile, bool) or not isinstance(percentile, (int, float)) or not 0 < percentile <= 100:
            raise MmsharpError(f'Soft: percentile is {percentile!r}, expected a number above 0 and at most 100')
        self.percentile = float(percentile)

    @torch.no_grad()
    def initial(self, values: Tensor, fan_in: int) -> Tensor:
        """``clip(|w| / Q(|w|, tau), 0, 1)``; all ones where the percentile is 0."""
        magnitudes = values.abs()
        scale = percentile(magnitudes, self.percentile)
        return (magnitudes / scale).clamp_(0, 1) if scale > 0 else torch.ones_like(magnitudes)

    def mask(self, variable: Tensor, kept: int) -> Tensor:
        """``clip(C, 0, 1)``, with the gradient of ``C``."""
        return straight_through(variable.clamp(0, 1), variable)

    def rank(self, variable: Tensor) -> Tensor:
        """``clip(C, 0, 1)``, likewise."""
        return self.mask(variable, 1)

    @torch.no_grad()
    def project_(self, variable: Tensor) -> None:
        """Clip in place."""
        variable.clamp_(0, 1)

    def check(self, name: str, size: int, kept: int) -> None:
        """Refuse a cut among the entries that begin as ones."""
        if size > 1 and kept < size and kept <= (1 - self.percentile / 100) * size:
            raise MmsharpError(
                f'Soft: percentile={self.percentile:g} sets at least {100 - self.percentile:g} % of the mask of '
                f'{name!r} to 1, and only {kept} of {size} entries are to stay; take a percentile above '
                f'{100 * (1 - kept / size):.4g}, or remove less'
            )


def percentile(values: Tensor, percent: float) -> Tensor:
    """The percentile of all entries, linear between neighbours as in NumPy; for tensors of any size.

    Args:
        values: Any shape, at least one entry.
        percent: 0 to 100.

    Example:
        >>> percentile(torch.tensor([4.0, 1.0, 2.0, 3.0]), 50).item()
        2.5
    """
    flat = values.flatten().float()
    place = percent / 100 * (flat.numel() - 1)
    below = int(place)
    low = flat.kthvalue(below + 1).values
    if place == below:
        return low
    return torch.lerp(low, flat.kthvalue(below + 2).values, place - below)
