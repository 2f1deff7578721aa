"""Rotation about the centre of the image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmsharp.registry import IMAGE_TRANSFORMS
from mmsharp.robustness.certification.transforms.resampling import resample
from mmsharp.robustness.certification.transforms.transform import ImageTransform, amount_text, check_amount


@IMAGE_TRANSFORMS.register_module()
class Rotation(ImageTransform):
    """Rotate counter-clockwise by an angle from ``U(-degrees, degrees)``; bilinear, black where nothing is known.

    As CC-Cert's code (Pautov et al. 2022) through kornia's ``RandomRotation``.

    Args:
        degrees: The largest angle, up to 180.

    Raises:
        MmsharpError: The angle is out of range.

    Example:
        >>> image = torch.tensor([[[[0.0, 0.5], [0.0, 0.0]]]])
        >>> Rotation(90)(image, torch.tensor([[90.0]])).round(decimals=5)[0, 0].tolist()
        [[0.5, 0.0], [0.0, 0.0]]
    """

    identity = (0.0,)

    def __init__(self, degrees: float) -> None:
        self.degrees = check_amount('rotation', degrees, most=180.0)
        self.low, self.high = (-self.degrees,), (self.degrees,)

    def transform(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Rotate each image by its angle in degrees."""
        angle = parameters[:, 0] * (math.pi / 180)
        cosine, sine, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
        return resample(images, (cosine, -sine, sine, cosine), (zero, zero))

    def __str__(self) -> str:
        return f'rotation:{amount_text(self.degrees)}'
