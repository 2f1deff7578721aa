"""Scaling about the centre of the image, each direction by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from mmsharp.registry import IMAGE_TRANSFORMS
from mmsharp.robustness.certification.transforms.resampling import resample
from mmsharp.robustness.certification.transforms.transform import ImageTransform, amount_text, check_amount

MOST = 0.99
"""A factor of 0 has no image."""


@IMAGE_TRANSFORMS.register_module()
class Scale(ImageTransform):
    """Scale width and height by factors from ``U(1 - change, 1 + change)``, drawn independently; bilinear, black edges.

    As CC-Cert's code (Pautov et al. 2022) through kornia's ``scale``; there the argument is the factor at one end.

    Args:
        change: The largest distance of a factor from 1, up to 0.99.

    Raises:
        MmsharpError: The change is out of range.

    Example:
        >>> image = torch.tensor([[[[0.0, 0.2, 0.4, 0.0]]]])
        >>> [round(value, 5) for value in Scale(0.5)(image, torch.tensor([[0.5, 1.0]])).flatten().tolist()]
        [0.0, 0.1, 0.2, 0.0]
    """

    identity = (1.0, 1.0)

    def __init__(self, change: float) -> None:
        self.change = check_amount('scale', change, most=MOST)
        self.low, self.high = (1 - self.change,) * 2, (1 + self.change,) * 2

    def transform(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Scale each image by its two factors."""
        wide, high = parameters.unbind(dim=1)
        zero = torch.zeros_like(wide)
        return resample(images, (1 / wide, zero, zero, 1 / high), (zero, zero))

    def __str__(self) -> str:
        return f'scale:{amount_text(self.change)}'
