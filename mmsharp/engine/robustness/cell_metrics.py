"""From what an evaluator returns for a cell to the numbers of its line, and from errors to messages."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import Evaluator

from mmsharp.errors import MmsharpError
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


def computes_apart(evaluator: Any) -> bool:
    """Whether an evaluator does more than give each of its metrics every image, as one that tells data sets apart."""
    return type(evaluator).evaluate is not Evaluator.evaluate


def check_evaluator(evaluator: Any, wanted: str | None = None) -> None:
    """Refuse evaluators that cannot give the score, before the first pass.

    Args:
        evaluator: As MMEngine built it.
        wanted: The metric that the user asks for.

    Raises:
        MmsharpError: All metrics only write predictions; or data sets are evaluated apart and no metric is named.
    """
    metrics = list(evaluator.metrics)
    if metrics and all(getattr(metric, 'format_only', False) for metric in metrics):
        names = ', '.join(type(metric).__name__ for metric in metrics)
        raise MmsharpError(
            f'{names} with format_only=True writes predictions and computes no metric; set format_only=False, which '
            'needs annotations'
        )
    prefixes = list(getattr(evaluator, 'dataset_prefixes', ()))
    if len(prefixes) > 1 and wanted is None:
        raise MmsharpError(
            f'{type(evaluator).__name__} evaluates {", ".join(prefixes)} apart, and the score is one metric: name it '
            f'(metric, --metric), for example {_prefixed(evaluator)[0][1]}{_main_name(metrics[0])}'
        )


def fill_empty(values: dict[str, float | None], evaluator: Any, known: Iterable[str]) -> None:
    """Enter zero for the metrics of a ``CocoMetric`` that was silent because nothing was detected.

    Severe corruptions blind weak detectors altogether; their average precision is then zero by definition. A metric
    with ``format_only`` is silent on purpose, and how an evaluator of unknown kind names its values is not known:
    nothing is entered for these.

    Args:
        values: The values of the cell, completed in place.
        evaluator: The evaluator that returned them: MMEngine's own, or MMDetection's ``MultiDatasetsEvaluator``.
        known: Names of metrics that other cells returned.
    """
    known = list(known)
    for metric, prefix in _prefixed(evaluator):
        if SILENT_WHEN_EMPTY not in class_names(metric) or getattr(metric, 'format_only', False):
            continue
        if not any(name.startswith(prefix) for name in values):
            names = [name for name in known if name.startswith(prefix)] or [f'{prefix}{_main_name(metric)}']
            values.update(dict.fromkeys(names, 0.0))


def _prefixed(evaluator: Any) -> list[tuple[Any, str]]:
    """Each metric with what the names of its values begin with, as far as that is known."""
    sets = getattr(evaluator, 'dataset_prefixes', None)
    if sets is not None:
        pairs = zip(evaluator.metrics, sets, strict=False)
        return [(metric, '/'.join([name, *([metric.prefix] if metric.prefix else []), ''])) for metric, name in pairs]
    if computes_apart(evaluator):
        return []
    return [(metric, f'{metric.prefix}/' if metric.prefix else '') for metric in evaluator.metrics]


def _main_name(metric: Any) -> str:
    """What a ``CocoMetric`` calls its first value; LVIS leaves out the m."""
    kinds = getattr(metric, 'metrics', None) or ['bbox']
    return f'{kinds[0]}_{"AP" if "LVISMetric" in class_names(metric) else "mAP"}'
