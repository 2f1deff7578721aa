"""Fabricated images and annotations, of the kind that a model's own training pipeline would give it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.logging import MessageHub

from mmsharp.engine.model_access.fabricated_samples import classification_sample, detection_sample
from mmsharp.type_names import type_name


def training_batch(config: Mapping[str, Any], toolbox: str, size: int, images: int, seed: int) -> dict[str, Any]:
    """Images of random pixels with random annotations, as a data loader hands them to ``train_step``.

    Detectors get boxes, labels and proposals, and masks and a semantic map where their training pipeline loads them;
    classifiers get a label.

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
    if toolbox == 'mmdet':
        pipeline = config.get('train_dataloader')
        wanted = dict(masks=_says(pipeline, 'with_mask'), semantics=_says(pipeline, 'with_seg'))
        samples = [detection_sample(generator, (size, size), classes, **wanted) for _ in range(images)]
    else:
        samples = [classification_sample(generator, (size, size), classes) for _ in range(images)]
    return dict(inputs=inputs, data_samples=samples)


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


def _says(part: Any, flag: str) -> bool:
    """Whether a flag of the loading of annotations is set anywhere in a config; panoptic ones bring everything."""
    if isinstance(part, Mapping):
        return bool(part.get(flag, type_name(part) == 'LoadPanopticAnnotations')) or any(
            _says(value, flag) for value in part.values()
        )
    return isinstance(part, (list, tuple)) and any(_says(value, flag) for value in part)
