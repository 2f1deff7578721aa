"""Binary masks with an exact number of ones, and the gradient that is passed through them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError


def kept_count(size: int, ratio: float, name: str = '') -> int:
    """How many of ``size`` entries stay when a share ``ratio`` is removed: ``size - round(ratio * size)``.

    Args:
        size: Entries of a mask, at least 1.
        ratio: The removed share, in [0, 1).
        name: Of the layer or group, for the message.

    Raises:
        MmsharpError: The ratio is outside of [0, 1), or nothing would be left.

    Example:
        >>> kept_count(10, 0.5), kept_count(27, 0.7)
        (5, 8)
    """
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio < 1:
        raise MmsharpError(f'ratio is {ratio!r}, expected the share of entries to remove, in [0, 1)')
    kept = size - round(ratio * size)
    if kept < 1:
        where = f' of {name!r}' if name else ''
        raise MmsharpError(
            f'ratio={ratio!r} leaves none of {size} entries{where}; remove less, or leave this layer out by `ignore`'
        )
    return kept


@torch.no_grad()
def hard_mask(rank: Tensor, kept: int, magnitude: Tensor | None = None) -> Tensor:
    """``H(C)``: 1 at the ``kept`` largest entries, 0 elsewhere; the number of ones is exact.

    Entries as large as the smallest kept one are told apart by ``magnitude``, or else by their position: masks that
    training has driven to 0 or 1 tie in great numbers.

    Args:
        rank: Any shape, finite numbers.
        kept: How many ones, 1 to the number of entries.
        magnitude: Of the same shape; larger wins among ties.

    Returns:
        The mask, of shape, type and device of ``rank``.

    Raises:
        MmsharpError: An entry of ``rank`` is not finite.

    Example:
        >>> hard_mask(torch.tensor([0.9, 0.2, 0.5, 0.5]), 2).tolist()
        [1.0, 0.0, 1.0, 0.0]
        >>> hard_mask(torch.tensor([0.9, 0.2, 0.5, 0.5]), 2, torch.tensor([1.0, 1.0, 1.0, 2.0])).tolist()
        [1.0, 0.0, 0.0, 1.0]
    """
    flat = rank.detach().flatten().float()
    if not flat.isfinite().all():
        raise MmsharpError(
            f'{int((~flat.isfinite()).sum())} of {flat.numel()} mask entries are not finite numbers, so that none is '
            'the largest: the search has diverged; lower the learning rate of the masks, or clip their gradients'
        )
    if kept >= flat.numel():
        return torch.ones_like(rank)
    cut = flat.kthvalue(flat.numel() - kept + 1).values
    above = flat > cut
    mask = above.to(rank.dtype)
    tied = (flat == cut).nonzero()[:, 0]
    missing = kept - int(above.sum())  # a sum of floats would be rounded
    if magnitude is not None and missing < len(tied):
        tied = tied[magnitude.detach().flatten().float()[tied].sort(descending=True, stable=True).indices]
    mask[tied[:missing]] = 1
    return mask.reshape(rank.shape)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, value: Tensor, variable: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def straight_through(value: Tensor, variable: Tensor) -> Tensor:
    """``value`` in the forward pass, ``variable`` in the backward pass (Bengio et al. 2013, arXiv 1308.3432).

    Args:
        value: Any tensor; gets no gradient.
        variable: Of the same shape; gets the gradient of the result, unchanged.

    Example:
        >>> variable = torch.tensor([0.2, 0.7], requires_grad=True)
        >>> straight_through(variable.round(), variable).sum().backward()
        >>> variable.grad.tolist()
        [1.0, 1.0]
    """
    result: Tensor = _StraightThrough.apply(value.detach(), variable)
    return result
