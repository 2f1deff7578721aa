"""On what scale images reach a network, so that noise in their place may be on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmsharp.pruning.forwards.contrasting_images import noise_images

PIXELS = (127.5, 60.0)
"""About the mean and deviation of the pixels of photographs, from 0 to 255."""


def image_scale(model: nn.Module) -> tuple[float, float]:
    """``((127.5 - mean) / std, 60 / std)``, the mean and deviation of photographs behind a model's preprocessor.

    ``mean`` and ``std`` are the preprocessor's, averaged over the channels; 0 and 1 where it has neither, which leaves
    the pixels as they are. Where a model has no preprocessor that could normalise, nothing is known of its images: they
    are taken to have mean 0 and deviation 1.

    Example:
        >>> image_scale(nn.Identity())
        (0.0, 1.0)
        >>> from mmengine.model import BaseModel, ImgDataPreprocessor
        >>> class Net(BaseModel):
        ...     def forward(self, inputs, data_samples=None, mode='tensor'): ...
        >>> image_scale(Net(ImgDataPreprocessor())), image_scale(Net(ImgDataPreprocessor([127.5], [30.0])))
        ((127.5, 60.0), (0.0, 2.0))
    """
    preprocessor: Any = getattr(model, 'data_preprocessor', None)
    while not hasattr(preprocessor, '_enable_normalize') and hasattr(preprocessor, 'data_preprocessor'):
        preprocessor = preprocessor.data_preprocessor  # that of each branch of a semi-supervised detector
    normalises = getattr(preprocessor, '_enable_normalize', None)
    if normalises is None:
        return 0.0, 1.0
    if not normalises:
        return PIXELS
    means, deviations = (torch.as_tensor(getattr(preprocessor, name)).double().flatten() for name in ('mean', 'std'))
    mean = float(((PIXELS[0] - means) / deviations).mean())
    spread = float((PIXELS[1] / deviations).mean())
    return (mean, spread) if math.isfinite(mean) and math.isfinite(spread) else (0.0, 1.0)


def images_like(
    model: nn.Module, shape: Sequence[int], batch: int = 1, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Normal noise on the scale of :func:`image_scale`, always the same.

    Args:
        model: What the images are for.
        shape: ``(channels, height, width)``.
        batch: Number of images.
        seed: Of the noise.
        dtype: ``torch.uint8`` for pixels from 0 to 255 that a preprocessor hands on as they are; else real.

    Returns:
        Shape ``(batch, *shape)``.

    Example:
        >>> images_like(nn.Identity(), (3, 2, 2)).shape
        torch.Size([1, 3, 2, 2])
    """
    mean, spread = PIXELS if dtype == torch.uint8 else image_scale(model)
    images = mean + spread * noise_images(shape, batch, seed)
    return images.round().clamp(0, 255).to(dtype) if dtype == torch.uint8 else images.to(dtype)
