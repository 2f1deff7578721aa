"""From what an evaluator returns for a cell to the numbers of its line, and from errors to messages."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from mmsharp.type_names import class_names

SILENT_WHEN_EMPTY = 'CocoMetric'
"""MMDetection's class that returns nothing at all, instead of zeros, where no image got a detection."""


def numbers(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Keep the metrics that are single numbers; NaN becomes ``None``.

    Example:
        >>> numbers({'coco/bbox_mAP': np.float64(0.5), 'classwise': [1, 2], 'coco/bbox_mAP_s': float('nan')})
        {'coco/bbox_mAP': 0.5, 'coco/bbox_mAP_s': None}
    """
    found: dict[str, float | None] = {}
    for name, value in metrics.items():
        if isinstance(value, (torch.Tensor, np.ndarray)):
            value = value.item() if math.prod(value.shape) == 1 else None
        if value is None or isinstance(value, (bool, str)) or not hasattr(value, '__float__'):
            continue
        number = float(value)
        found[name] = number if math.isfinite(number) else None
    return found


def fill_empty(values: dict[str, float | None], evaluator_metrics: Iterable[Any], known: Iterable[str]) -> None:
    """Enter zero for the metrics of a ``CocoMetric`` that was silent because nothing was detected.

    Severe corruptions blind weak detectors altogether; their average precision is then zero by definition.

    Args:
        values: The values of the cell, completed in place.
        evaluator_metrics: The metrics of the evaluator.
        known: Names of metrics that other cells returned.
    """
    for metric in evaluator_metrics:
        if SILENT_WHEN_EMPTY not in class_names(metric):
            continue
        prefix = f'{metric.prefix}/' if metric.prefix else ''
        if not any(name.startswith(prefix) for name in values):
            names = [name for name in known if name.startswith(prefix)] or [f'{prefix}bbox_mAP']
            values.update(dict.fromkeys(names, 0.0))
