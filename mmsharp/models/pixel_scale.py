"""From images as a network gets them back to pixels, on the scale of its data preprocessor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError

WHITE = 255.0
"""What pipelines of the toolboxes hold for white, and what their preprocessors are told mean and deviation in."""
DARKEST = 10.0
"""A batch without a pixel above this is on another scale: standardised numbers reach about 5, shares of white 1."""
BEYOND = 0.5 * WHITE
"""How far outside of 0 to 255 pixels may lie, for pipelines that jitter them in floating point."""


def pixel_scale(preprocessor: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a data preprocessor, in units in which full white is 1.

    Example:
        >>> from mmengine.model import ImgDataPreprocessor
        >>> [value.tolist() for value in pixel_scale(ImgDataPreprocessor([127.5], [51.0]))]
        [[0.5], [0.20000000298023224]]
    """
    mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
    if not isinstance(mean, Tensor) or not isinstance(std, Tensor):
        return torch.zeros(1), torch.full((1,), 1 / WHITE)
    return mean.flatten() / WHITE, std.flatten() / WHITE


@torch.no_grad()
def check_pixels(images: Tensor, preprocessor: nn.Module) -> None:
    """Refuse images whose pixels are not on the scale of 8 bits, which a preprocessor alone does not say.

    Args:
        images: Shape ``(N, C, H, W)``, behind the preprocessor.
        preprocessor: What normalised them.

    Raises:
        MmsharpError: Undoing the preprocessor gives no pixels from 0 to 255.

    Example:
        >>> from mmengine.model import ImgDataPreprocessor
        >>> check_pixels(torch.rand(1, 3, 4, 4), ImgDataPreprocessor([0.0], [255.0]))
    """
    mean, std = (value.to(images.device).reshape(1, -1, 1, 1) for value in pixel_scale(preprocessor))
    pixels = (images.float() * std + mean) * WHITE
    low, high = float(pixels.min()), float(pixels.max())
    if DARKEST < high <= WHITE + BEYOND and low >= -BEYOND:
        return
    has = [
        f'{name}={getattr(preprocessor, name).flatten().tolist()}'
        for name in ('mean', 'std')
        if _has(preprocessor, name)
    ]
    raise MmsharpError(
        f'mask search: without the normalisation of data_preprocessor {type(preprocessor).__name__} '
        f'({", ".join(has) or "no mean and std"}) the pixels of the batch lie from {low:.4g} to {high:.4g}, and images '
        'are transformed as pixels of 8 bits, 0 to 255; let the pipeline give such images and the preprocessor alone '
        'normalise them, with mean and std in units of 0 to 255, or leave the terms with a transform out of '
        'search.losses, margin_ratio=None'
    )


def _has(preprocessor: nn.Module, name: str) -> bool:
    return isinstance(getattr(preprocessor, name, None), Tensor)
