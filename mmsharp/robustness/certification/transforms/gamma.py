"""A power of all pixels."""

from __future__ import annotations

from torch import Tensor

from mmsharp.registry import IMAGE_TRANSFORMS
from mmsharp.robustness.certification.transforms.transform import ImageTransform, amount_text, check_amount

MOST = 100.0
"""Far beyond it, single precision takes ``1 / exponent`` for 0, and ``0 ** 0`` is white."""


@IMAGE_TRANSFORMS.register_module()
class Gamma(ImageTransform):
    """``x ** g`` with ``g`` from ``U(1 / exponent, exponent)``.

    As CC-Cert's code (Pautov et al. 2022) through kornia's ``adjust_gamma``. The exponents are drawn uniformly as
    there, so that more of them darken than brighten.

    Args:
        exponent: The largest ``g``, above 1 and up to 100.

    Raises:
        MmsharpError: The exponent is out of range.

    Example:
        >>> import torch
        >>> image = torch.tensor([[[[0.25, 0.5]]]])
        >>> Gamma(2)(image, torch.tensor([[2.0]]))[0, 0].tolist()
        [[0.0625, 0.25]]
    """

    identity = (1.0,)

    def __init__(self, exponent: float) -> None:
        self.exponent = check_amount('gamma', exponent, most=MOST, least=1.0)
        self.low, self.high = (1 / self.exponent,), (self.exponent,)

    def transform(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Raise each image to its ``g``."""
        (power,) = self.columns(parameters)
        return images.clamp(min=0.0) ** power

    def __str__(self) -> str:
        return f'gamma:{amount_text(self.exponent)}'
