"""Gaussian blur."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own name for it)
from torch import Tensor

from mmsharp.registry import IMAGE_TRANSFORMS
from mmsharp.robustness.certification.transforms.transform import ImageTransform, amount_text, check_amount

MOST = 100.0
REACH = 3.0
"""The kernel is cut off at so many standard deviations of the strongest blur."""


@IMAGE_TRANSFORMS.register_module()
class Blur(ImageTransform):
    """Gaussian blur with a standard deviation from ``U(0, sigma)`` pixels; the image is mirrored at its edges.

    The range is that of CC-Cert's code (Pautov et al. 2022), which blurs through imgaug and OpenCV; pixels may differ
    from theirs in the last digits. Kernels reach to three ``sigma``, but not further than the image is large. The taps
    are added one by one, because each image has a kernel of its own and torchvision's blur takes one for all.

    Args:
        sigma: The largest standard deviation in pixels of the image that the model gets, up to 100.

    Raises:
        MmsharpError: The standard deviation is out of range.

    Example:
        >>> image = torch.tensor([[[[0.0, 0.0, 0.9, 0.0, 0.0]]]])
        >>> [round(value, 3) for value in Blur(1)(image, torch.tensor([[0.5]])).flatten().tolist()]
        [0.0, 0.096, 0.708, 0.096, 0.0]
    """

    identity = (0.0,)

    def __init__(self, sigma: float) -> None:
        self.sigma = check_amount('blur', sigma, most=MOST)
        self.low, self.high = (0.0,), (self.sigma,)

    def transform(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Blur each image by its standard deviation."""
        return self._along(self._along(images, parameters, axis=3), parameters, axis=2)

    def _along(self, images: Tensor, parameters: Tensor, axis: int) -> Tensor:
        size = images.shape[axis]
        radius = min(math.ceil(REACH * self.sigma), size - 1)
        if radius == 0:
            return images
        taps = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
        sigma = parameters.clamp(min=1e-3)  # the identity itself is not computed; see the base class
        kernel = torch.exp(-((taps / sigma) ** 2) / 2)
        kernel = kernel / kernel.sum(dim=1, keepdim=True)
        padding = (radius, radius, 0, 0) if axis == 3 else (0, 0, radius, radius)
        padded = F.pad(images, padding, mode='reflect')
        blurred = torch.zeros_like(images)
        for tap in range(2 * radius + 1):
            blurred += kernel[:, tap, None, None, None] * padded.narrow(axis, tap, size)
        return blurred

    def __str__(self) -> str:
        return f'blur:{amount_text(self.sigma)}'
