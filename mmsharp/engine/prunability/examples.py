"""Fabricated images and annotations, of the kind that a model's own training pipeline would give it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData, PixelData

OBJECTS = 3
PROPOSALS = 12


def training_batch(config: Mapping[str, Any], toolbox: str, size: int, images: int, seed: int) -> dict[str, Any]:
    """Images of random pixels with random annotations, as a data loader hands them to ``train_step``.

    Detectors get boxes, labels, masks, a semantic map and proposals; each takes what it needs. Classifiers get a label.

    Args:
        config: The whole config; its preprocessor says how many channels an image has, its model how many classes.
        toolbox: ``'mmdet'`` or ``'mmpretrain'``.
        size: Height and width.
        images: How many.
        seed: Of the random numbers; the global generators are not read.

    Returns:
        ``inputs``, a list of uint8 tensors of shape ``(channels, size, size)``, and ``data_samples``.
    """
    generator = np.random.default_rng(seed)
    channels, classes = image_channels(config), smallest_class_count(config['model'])
    inputs = [
        torch.from_numpy(generator.integers(0, 256, (channels, size, size), dtype=np.uint8)) for _ in range(images)
    ]
    sample = _detection_sample if toolbox == 'mmdet' else _classification_sample
    return dict(inputs=inputs, data_samples=[sample(generator, size, classes) for _ in range(images)])


def announce_first_iteration() -> None:
    """Say what a runner says before its first iteration; some losses and preprocessors ask."""
    hub = MessageHub.get_current_instance()
    for key, value in dict(epoch=0, iter=0, max_epochs=1, max_iters=1).items():
        hub.update_info(key, value)


def image_channels(config: Mapping[str, Any]) -> int:
    """Channels of an image, by the preprocessor's means; 3 where it has none.

    Example:
        >>> image_channels(dict(data_preprocessor=dict(mean=[33.5]), model=dict()))
        1
    """
    preprocessor = config.get('data_preprocessor') or config['model'].get('data_preprocessor') or {}
    return len(preprocessor.get('mean') or (0, 0, 0))


def smallest_class_count(part: Any) -> int:
    """The smallest ``num_classes`` anywhere in a model config, so that a label below it fits every head.

    Example:
        >>> smallest_class_count(dict(head=[dict(num_classes=80), dict(num_classes=2)]))
        2
    """
    if isinstance(part, Mapping):
        own = part.get('num_classes')
        counts = [smallest_class_count(value) for value in part.values()] + ([own] if isinstance(own, int) else [])
    elif isinstance(part, (list, tuple)):
        counts = [smallest_class_count(value) for value in part]
    else:
        counts = []
    return min((count for count in counts if count > 0), default=0)


def _classification_sample(generator: np.random.Generator, size: int, classes: int) -> Any:
    from mmpretrain.structures import DataSample

    sample = DataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size)))
    return sample.set_gt_label(int(generator.integers(max(classes, 1))))


def _detection_sample(generator: np.random.Generator, size: int, classes: int) -> Any:
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    sides = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), (size, size))
    sample = DetDataSample(metainfo=dict(sides, scale_factor=(1.0, 1.0), flip=False, flip_direction=None, img_id=0))
    boxes = _boxes(generator, OBJECTS, size)
    masks = np.zeros((OBJECTS, size, size), dtype=np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.round().int().tolist()):
        mask[top:bottom, left:right] = 1
    labels = torch.from_numpy(generator.integers(max(classes, 1), size=OBJECTS))
    sample.gt_instances = InstanceData(bboxes=boxes, labels=labels, masks=BitmapMasks(masks, size, size))
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    sample.proposals = InstanceData(bboxes=_boxes(generator, PROPOSALS, size), scores=torch.ones(PROPOSALS))
    sample.gt_sem_seg = PixelData(sem_seg=torch.from_numpy(generator.integers(max(classes, 1), size=(1, size, size))))
    return sample


def _boxes(generator: np.random.Generator, count: int, size: int) -> torch.Tensor:
    """Corners of boxes whose sides are a quarter to a half of the image, shape ``(count, 4)``."""
    sides = generator.uniform(size / 4, size / 2, (count, 2))
    corners = generator.uniform(0, 1, (count, 2)) * (size - sides)
    return torch.from_numpy(np.concatenate([corners, corners + sides], axis=1)).float()
