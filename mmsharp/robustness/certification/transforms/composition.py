"""Several transforms, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.robustness.certification.transforms.transform import ImageTransform, pairs


class Composition(ImageTransform):
    """Transforms from left to right, their parameters side by side and drawn independently.

    As CC-Cert's code (Pautov et al. 2022) for names such as ``'brightness-contrast'``; each result is clipped to [0, 1]
    before the next begins.

    Args:
        parts: Two or more transforms; the same one may come twice.

    Raises:
        MmsharpError: There are fewer.

    Example:
        >>> from mmsharp.robustness.certification.transforms import parse_transform
        >>> both = parse_transform('rotation:10+brightness:0.4')
        >>> str(both), both.dimensions, both.identity
        ('rotation:10+brightness:0.4', 2, (0.0, 0.0))
    """

    def __init__(self, parts: Sequence[ImageTransform]) -> None:
        if len(parts) < 2:
            raise MmsharpError(f'a composition of {len(parts)} transforms; give two or more')
        self.parts = tuple(parts)
        self.low = tuple(end for part in parts for end in part.low)
        self.high = tuple(end for part in parts for end in part.high)
        self.identity = tuple(value for part in parts for value in part.identity)

    def apply(self, images: Tensor, parameters: Tensor) -> Tensor:
        """Apply one part after the other."""
        for part, (begin, end) in zip(self.parts, pairs(tuple(part.dimensions for part in self.parts)), strict=True):
            images = part.apply(images, parameters[:, begin:end])
        return images

    def transform(self, images: Tensor, parameters: Tensor) -> Tensor:
        """As :meth:`apply`."""
        return self.apply(images, parameters)

    def __str__(self) -> str:
        return '+'.join(map(str, self.parts))
