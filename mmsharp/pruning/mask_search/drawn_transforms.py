"""Transforms of image batches, drawn anew for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.registry import IMAGE_TRANSFORMS, build_part

DEFAULT = (
    dict(type='Rotation', degrees=10.0),
    dict(type='Contrast', change=0.4),
    dict(type='Brightness', change=0.4),
)


class DrawnTransforms:
    """``T_n(...T_1(x; u_1)...; u_n)`` with ``u`` uniform in each transform's range, for each image by itself.

    The transforms are those that certification knows (:mod:`mmsharp.robustness`), on pixels in [0, 1]. That C-SAM is
    trained with these, and their ranges, are ours: which transforms the paper draws from is not known.

    Args:
        transforms: Configs of registered image transforms or built ones, applied in their order; one alone will do.

    Raises:
        MmsharpError: There is none, or one is no transform of images.

    Example:
        >>> images = torch.rand(2, 3, 8, 8)
        >>> moved = DrawnTransforms(dict(type='Brightness', change=0.2))(images, 0.0, 1.0)
        >>> bool((moved - images).abs().max() <= 0.2)
        True
    """

    def __init__(self, transforms: Any = DEFAULT) -> None:
        single = isinstance(transforms, (str, Mapping)) or not isinstance(transforms, Sequence)
        self.parts = [build_part(IMAGE_TRANSFORMS, part) for part in ([transforms] if single else transforms)]
        if not self.parts:
            raise MmsharpError('DrawnTransforms: transforms is empty, expected at least one')
        for part in self.parts:
            if not callable(part) or not hasattr(part, 'parameters') or not hasattr(part, 'dimensions'):
                raise MmsharpError(
                    f'DrawnTransforms: {part!r} is no transform of images; accepted are '
                    f'{", ".join(sorted(IMAGE_TRANSFORMS.module_dict))}'
                )

    @torch.no_grad()
    def __call__(
        self, images: Tensor, mean: float | Sequence[float] | Tensor, std: float | Sequence[float] | Tensor
    ) -> Tensor:
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
        pixels = (images.float() * spread + shift).clamp(0, 1)
        for part in self.parts:
            uniform = torch.rand(len(images), part.dimensions, device=images.device)
            pixels = part(pixels, part.parameters(uniform))
        return ((pixels - shift) / spread).to(images.dtype)
