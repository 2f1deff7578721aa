"""Random transforms of image batches, on tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mmsharp.errors import MmsharpError
from mmsharp.registry import MASK_TRANSFORMS


@MASK_TRANSFORMS.register_module()
class RandomTransform:
    """Rotation, translation, scale, contrast, brightness and gamma, drawn for each image by itself.

    Per image: an angle of ``U(-rotation, rotation)`` degrees, shifts of ``U(-translation, translation)`` of the sides,
    a scale of ``U(1 - scale, 1 + scale)``, together one bilinear resampling with black outside; then, on pixels in [0,
    1], ``x * U(1 - contrast, 1 + contrast) + U(-brightness, brightness)`` and ``x ** gamma^U(-1, 1)``, clipped to [0,
    1] after each. The kinds are CC-Cert's (Pautov et al. 2022, arXiv 2109.10696) but for blur; the ranges, and that
    these are what C-SAM is trained with, are ours: which transforms the paper draws from is not known.

    Args:
        rotation: Degrees.
        translation: Share of the image.
        scale: Up to which share larger or smaller.
        contrast: Up to which share more or less.
        brightness: Up to which share of the full range brighter or darker.
        gamma: Largest exponent, at least 1.

    Raises:
        MmsharpError: A setting is out of range.

    Example:
        >>> images = torch.rand(2, 3, 8, 8)
        >>> nothing = RandomTransform(rotation=0, contrast=0, brightness=0)
        >>> bool(torch.equal(nothing(images, (0.0,), (1.0,)), images))
        True
    """

    def __init__(
        self,
        rotation: float = 10.0,
        translation: float = 0.0,
        scale: float = 0.0,
        contrast: float = 0.4,
        brightness: float = 0.4,
        gamma: float = 1.0,
    ) -> None:
        given = dict(rotation=rotation, translation=translation, scale=scale, contrast=contrast, brightness=brightness)
        limits = dict(rotation=180.0, translation=1.0, scale=0.99, contrast=1.0, brightness=1.0)
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= limits[name]:
                raise MmsharpError(
                    f'RandomTransform: {name} is {value!r}, expected a number from 0 to {limits[name]:g}'
                )
        if isinstance(gamma, bool) or not isinstance(gamma, (int, float)) or not 1 <= gamma < math.inf:
            raise MmsharpError(f'RandomTransform: gamma is {gamma!r}, expected a finite number of at least 1')
        self.rotation, self.translation, self.scale = float(rotation), float(translation), float(scale)
        self.contrast, self.brightness, self.gamma = float(contrast), float(brightness), float(gamma)

    @torch.no_grad()
    def __call__(self, images: Tensor, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor) -> Tensor:
        """Transform a batch.

        Args:
            images: Shape ``(N, C, H, W)``, as the network gets them: ``(pixels - mean) / std``.
            mean: Per channel, or one for all, in units in which full white is 1.
            std: Likewise.

        Returns:
            New images of the same shape and type.
        """
        shift = torch.as_tensor(mean, dtype=torch.float32, device=images.device).reshape(1, -1, 1, 1)
        spread = torch.as_tensor(std, dtype=torch.float32, device=images.device).reshape(1, -1, 1, 1)
        pixels = self._moved(images.float() * spread + shift)
        count = len(images)
        if self.contrast or self.brightness:
            factor = 1 + self._draw(count, self.contrast, images.device)
            pixels = (pixels * factor + self._draw(count, self.brightness, images.device)).clamp(0, 1)
        if self.gamma > 1:
            pixels = pixels.clamp(0, 1) ** (self.gamma ** self._draw(count, 1.0, images.device))
        if not (self.rotation or self.translation or self.scale or self.contrast or self.brightness or self.gamma > 1):
            return images.clone()
        return ((pixels - shift) / spread).to(images.dtype)

    def _moved(self, pixels: Tensor) -> Tensor:
        if not (self.rotation or self.translation or self.scale):
            return pixels
        count, device = len(pixels), pixels.device
        angle = self._draw(count, math.radians(self.rotation), device).flatten()
        scale = 1 / (1 + self._draw(count, self.scale, device).flatten())
        height, width = pixels.shape[2:]
        cosine, sine = angle.cos() * scale, angle.sin() * scale
        across, along = (2 * self._draw(count, self.translation, device).flatten() for _ in range(2))
        rows = [cosine, -sine * height / width, across, sine * width / height, cosine, along]
        grid = functional.affine_grid(torch.stack(rows, dim=1).reshape(count, 2, 3), list(pixels.shape), False)
        return functional.grid_sample(pixels, grid, align_corners=False)

    @staticmethod
    def _draw(count: int, width: float, device: torch.device) -> Tensor:
        """``U(-width, width)`` per image, shape ``(count, 1, 1, 1)``."""
        return (torch.rand(count, 1, 1, 1, device=device) * 2 - 1) * width
