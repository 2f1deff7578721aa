"""Data samples with annotations that nobody has made, of the kinds that the toolboxes' losses read."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmengine.structures import InstanceData, PixelData

OBJECTS = 3
PROPOSALS = 12


def like(samples: Any, shape: tuple[int, int]) -> Any | None:
    """A sample of the kind of the first of these, for an image of this height and width.

    It depends on the shape and on which kinds of annotations there are, and on nothing else: what is found out with it
    depends neither on the order of the data nor on the process.

    Returns:
        ``None`` where there are no samples, or of a kind that is not known.

    Example:
        >>> like(torch.zeros(2), (32, 32)) is None
        True
    """
    first: Any = samples[0] if isinstance(samples, (list, tuple)) and samples else None
    kind = type(first).__name__
    if kind == 'DataSample':
        return classification_sample(np.random.default_rng(0), shape, 1)
    if kind != 'DetDataSample':
        return None
    has = {'masks': 'masks' in first.get('gt_instances', ()), 'semantics': 'gt_sem_seg' in first}
    return detection_sample(np.random.default_rng(0), shape, 1, **has)


def classification_sample(generator: np.random.Generator, shape: tuple[int, int], classes: int) -> Any:
    """A sample of mmpretrain with a label below ``classes``."""
    from mmpretrain.structures import DataSample

    return DataSample(metainfo=dict(img_shape=shape, ori_shape=shape)).set_gt_label(
        int(generator.integers(max(classes, 1)))
    )


def detection_sample(
    generator: np.random.Generator, shape: tuple[int, int], classes: int, masks: bool = False, semantics: bool = False
) -> Any:
    """A sample of mmdet with boxes, labels below ``classes`` and proposals, with masks and a semantic map if asked."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    sides = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), shape)
    sample = DetDataSample(metainfo=dict(sides, scale_factor=(1.0, 1.0), flip=False, flip_direction=None, img_id=0))
    boxes = _boxes(generator, OBJECTS, shape)
    labels = torch.from_numpy(generator.integers(max(classes, 1), size=OBJECTS))
    sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
    if masks:
        bitmaps = np.zeros((OBJECTS, *shape), dtype=np.uint8)
        for bitmap, (left, top, right, bottom) in zip(bitmaps, boxes.round().int().tolist()):
            bitmap[top:bottom, left:right] = 1
        sample.gt_instances.masks = BitmapMasks(bitmaps, *shape)
    if semantics:
        numbers = generator.integers(max(classes, 1), size=(1, *shape))
        sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(numbers))
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    sample.proposals = InstanceData(bboxes=_boxes(generator, PROPOSALS, shape), scores=torch.ones(PROPOSALS))
    return sample


def _boxes(generator: np.random.Generator, count: int, shape: tuple[int, int]) -> torch.Tensor:
    """Corners of boxes whose sides are a quarter to a half of the image's, shape ``(count, 4)``."""
    image = np.array(shape[::-1])
    sides = generator.uniform(0.25, 0.5, (count, 2)) * image
    corners = generator.uniform(0, 1, (count, 2)) * (image - sides)
    return torch.from_numpy(np.concatenate([corners, corners + sides], axis=1)).float()
