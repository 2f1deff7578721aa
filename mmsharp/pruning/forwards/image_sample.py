"""What a model has to know of an image beside its pixels."""

from __future__ import annotations

from mmengine.structures import BaseDataElement


def image_sample(shape: tuple[int, ...]) -> BaseDataElement:
    """What two-stage and query-based detectors have to know of an image, for one of shape ``(C, H, W)``.

    Example:
        >>> image_sample((3, 32, 64)).img_shape
        (32, 64)
    """
    size = tuple(shape[1:])
    sizes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), size)
    return BaseDataElement(metainfo=dict(sizes, scale_factor=(1.0, 1.0)))
