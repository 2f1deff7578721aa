"""Translation in both directions."""

from __future__ import annotations

import torch
from torch import Tensor

from mmsharp.registry import IMAGE_TRANSFORMS
from mmsharp.robustness.certification.transforms.resampling import resample
from mmsharp.robustness.certification.transforms.transform import ImageTransform, amount_text, check_amount


@IMAGE_TRANSFORMS.register_module()
class Translation(ImageTransform):
    """Move right by ``U(-fraction, fraction)`` of the width and down by as much of the height, independently.

    Bilinear, by parts of a pixel too, black where nothing is known; as CC-Cert's code (Pautov et al. 2022) through
    kornia's ``RandomAffine``.

    Args:
        fraction: The largest move over the side of the image, up to 1.

    Raises:
        MmsharpError: The fraction is out of range.

    Example:
        >>> image = torch.tensor([[[[0.0, 0.5], [0.0, 0.0]]]])
        >>> Translation(0.5)(image, torch.tensor([[-0.5, 0.5]])).round(decimals=5)[0, 0].tolist()
        [[0.0, 0.0], [0.5, 0.0]]
    """

    identity = (0.0, 0.0)

    def __init__(self, fraction: float) -> None:
        self.fraction = check_amount('translation', fraction, most=1.0)
        self.low, self.high = (-self.fraction,) * 2, (self.fraction,) * 2

    def transform(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Move each image by its fractions of the sides."""
        height, width = images.shape[-2:]
        right, down = parameters.unbind(dim=1)
        one, zero = torch.ones_like(right), torch.zeros_like(right)
        return resample(images, (one, zero, zero, one), (-right * width, -down * height))

    def __str__(self) -> str:
        return f'translation:{amount_text(self.fraction)}'
