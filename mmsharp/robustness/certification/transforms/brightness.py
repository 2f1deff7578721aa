"""A constant added to all pixels."""

from __future__ import annotations

from torch import Tensor

from mmsharp.registry import IMAGE_TRANSFORMS
from mmsharp.robustness.certification.transforms.transform import ImageTransform, amount_text, check_amount


@IMAGE_TRANSFORMS.register_module()
class Brightness(ImageTransform):
    """``x + b`` with ``b`` from ``U(-change, change)``, clipped to [0, 1].

    As CC-Cert's code (Pautov et al. 2022) through kornia's ``adjust_brightness``.

    Args:
        change: The largest ``b``, where white is 1; up to 1.

    Raises:
        MmsharpError: The change is out of range.

    Example:
        >>> import torch
        >>> image = torch.tensor([[[[0.25, 0.75]]]])
        >>> Brightness(0.5)(image, torch.tensor([[0.5]]))[0, 0].tolist()
        [[0.75, 1.0]]
    """

    identity = (0.0,)

    def __init__(self, change: float) -> None:
        self.change = check_amount('brightness', change, most=1.0)
        self.low, self.high = (-self.change,), (self.change,)

    def transform(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Add to each image its ``b``."""
        (added,) = self.columns(parameters)
        return images + added

    def __str__(self) -> str:
        return f'brightness:{amount_text(self.change)}'
