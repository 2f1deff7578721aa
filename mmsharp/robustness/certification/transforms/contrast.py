"""A factor on all pixels."""

from __future__ import annotations

from torch import Tensor

from mmsharp.registry import IMAGE_TRANSFORMS
from mmsharp.robustness.certification.transforms.transform import ImageTransform, amount_text, check_amount


@IMAGE_TRANSFORMS.register_module()
class Contrast(ImageTransform):
    """``c x`` with ``c`` from ``U(1 - change, 1 + change)``, clipped to [0, 1].

    As CC-Cert's code (Pautov et al. 2022) through kornia's ``adjust_contrast``: the pixels themselves are multiplied,
    not, as in torchvision, their distance from the mean. In the code the argument is the factor at one end.

    Args:
        change: The largest distance of ``c`` from 1, up to 1.

    Raises:
        MmsharpError: The change is out of range.

    Example:
        >>> import torch
        >>> image = torch.tensor([[[[0.25, 0.75]]]])
        >>> Contrast(0.5)(image, torch.tensor([[1.5]]))[0, 0].tolist()
        [[0.375, 1.0]]
    """

    identity = (1.0,)

    def __init__(self, change: float) -> None:
        self.change = check_amount('contrast', change, most=1.0)
        self.low, self.high = (1 - self.change,), (1 + self.change,)

    def transform(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Multiply each image by its ``c``."""
        (factor,) = self.columns(parameters)
        return images * factor

    def __str__(self) -> str:
        return f'contrast:{amount_text(self.change)}'
