"""The pipeline transform that moves and relights images as certification and the search of masks do."""

from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search.drawn_transforms import DEFAULT, DrawnTransforms
from mmsharp.registry import TRANSFORMS

WHITE = 255.0


@TRANSFORMS.register_module()
class RandomImageTransforms(BaseTransform):
    """``round(255 T_n(...T_1(x / 255; u_1)...; u_n))`` with ``u`` uniform in each transform's range.

    The transforms and their ranges are those that networks are certified against
    (:class:`mmsharp.CertifiedRobustness`) and that C-SAM's margin ratio draws, so that a method without such a term can
    train on the very same images. Colours may be in either order. Images keep their size; boxes are not moved.

    Required and modified key: ``img``, an array of 8 bits, ``(H, W)`` or ``(H, W, C)``.

    Args:
        transforms: Configs of registered image transforms, applied in their order.

    Raises:
        MmsharpError: There is none, or one is no transform of images; or, on use, an image is not of 8 bits.

    Example:
        >>> darker_or_brighter = RandomImageTransforms([dict(type='Brightness', change=0.2)])
        >>> results = darker_or_brighter(dict(img=np.full((8, 8, 3), 128, dtype=np.uint8)))
        >>> bool(np.ptp(results['img']) == 0), bool(77 <= results['img'].min() <= 179)
        (True, True)
    """

    def __init__(self, transforms: Any = DEFAULT) -> None:
        self.draw = DrawnTransforms(transforms)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Transform the image of ``results``."""
        image = results['img']
        if image.dtype != np.uint8:
            raise MmsharpError(
                f'RandomImageTransforms: image {results.get("img_path", "")!r} has type {image.dtype}, expected uint8; '
                'put it before what normalises, and load without to_float32'
            )
        pixels = torch.from_numpy(np.ascontiguousarray(np.atleast_3d(image))).permute(2, 0, 1)[None]
        drawn = self.draw(pixels.float() / WHITE, 0.0, 1.0)[0].permute(1, 2, 0)
        results['img'] = (drawn * WHITE).round().clamp(0, WHITE).to(torch.uint8).numpy().reshape(image.shape)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.draw.parts})'
