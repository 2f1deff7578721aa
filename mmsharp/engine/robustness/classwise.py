"""Values per class: ask the toolboxes' metrics for them, and find them in what they return."""

from collections.abc import Container, Mapping, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from mmsharp.datasets.label_names import label_names
from mmsharp.engine.robustness.cell_metrics import numbers
from mmsharp.errors import MmsharpError
from mmsharp.robustness import CLASS_PREFIX
from mmsharp.type_names import type_name

SUFFIX = '_precision'
DETECTION_VALUES = ('mAP', 'AP', 'AR@', 'bbox_', 'segm_', 'proposal')
"""How the names begin that ``VOCMetric`` and ``CocoMetric`` give their values."""
RECALL = 'single-label/recall_classwise'


def ask_for_classes(cfg: Config) -> None:
    """Let the test evaluator of a config compute a value per class, in place.

    ``CocoMetric`` gives the AP of a class with ``classwise=True``; ``VOCMetric`` becomes
    :class:`mmsharp.VOCMetricByClass`; beside ``Accuracy`` stands MMPretrain's ``SingleLabelMetric`` with the recall of
    each class, which is its accuracy.

    Raises:
        MmsharpError: None of these is among the evaluator's metrics.

    Example:
        >>> cfg = Config(dict(test_evaluator=dict(type='CocoMetric', ann_file='test.json')))
        >>> ask_for_classes(cfg)
        >>> cfg.test_evaluator
        [{'type': 'CocoMetric', 'ann_file': 'test.json', 'classwise': True}]
    """
    given = cfg.test_evaluator
    metrics = list(given) if isinstance(given, (list, tuple)) else [given]
    known = False
    for metric in list(metrics):
        name = type_name(metric)
        if name == 'CocoMetric':
            metric['classwise'] = True
        elif name == 'VOCMetric':
            metric['type'] = 'mmsharp.VOCMetricByClass'
        elif name == 'Accuracy':
            metrics.append(ConfigDict(type='mmpretrain.SingleLabelMetric', items=['recall'], average=None))
        known |= name in ('CocoMetric', 'VOCMetric', 'VOCMetricByClass', 'Accuracy')
    if not known:
        names = ', '.join(str(type_name(metric)) for metric in metrics)
        raise MmsharpError(
            f'values per class are known of CocoMetric, VOCMetric and Accuracy, and the test_evaluator is {names}; '
            'evaluate without --classwise'
        )
    cfg.test_evaluator = metrics


def class_values(metrics: Mapping[str, Any], classes: Sequence[str]) -> dict[str, float | None]:
    """The values per class in what an evaluator returned, as ``class/<name>``, in the order of the labels.

    Classes are named as :func:`mmsharp.datasets.label_names` does: by their index where the dataset names none, and
    with their index where several have one name. ``CocoMetric`` keeps one value per name, so where it was given several
    classes of one name their values are unknown, ``None``. Where it returned nothing, because nothing was detected, the
    value of every class is zero, as that of the mean.

    Args:
        metrics: Its return value, with one of the metrics of :func:`ask_for_classes` or, from a silent ``CocoMetric``,
            without any.
        classes: The names, in the order of the labels; empty where the dataset has none, or no values are wanted.

    Example:
        >>> class_values({'coco/bbox_mAP': 0.4, 'coco/cat_precision': float('nan'), 'coco/dog_precision': 0.5}, ['dog'])
        {'class/dog': 0.5}
        >>> class_values({'single-label/recall_classwise': [80.0, float('nan')]}, ['cat', 'dog'])
        {'class/cat': 80.0, 'class/dog': None}
        >>> class_values({'single-label/recall_classwise': [80.0, 90.0]}, [])
        {'class/0': 80.0, 'class/1': 90.0}
        >>> class_values({}, ['cat', 'dog'])
        {'class/cat': 0.0, 'class/dog': 0.0}
    """
    recalls = metrics.get(RECALL)
    if recalls is not None:
        names = label_names(classes, len(recalls))
        return numbers({f'{CLASS_PREFIX}{name}': value for name, value in zip(names, recalls, strict=True)})
    names = label_names(classes)
    if not any(_is_detection_value(metric) for metric in metrics):
        return {f'{CLASS_PREFIX}{name}': 0.0 for name in names}
    known = {*classes, *names}
    found = {name: value for metric, value in metrics.items() if (name := _class_of(metric, known)) is not None}
    values = {}
    for name, plain in zip(names, classes, strict=True):
        if name in found:
            values[f'{CLASS_PREFIX}{name}'] = found[name]
        elif plain in found:
            values[f'{CLASS_PREFIX}{name}'] = float('nan')
    return numbers(values)


def _is_detection_value(metric: str) -> bool:
    """Whether a detection metric was not silent, by one of the names that it gives its values."""
    return metric.endswith(SUFFIX) or metric.rsplit('/', 1)[-1].startswith(DETECTION_VALUES)


def _class_of(metric: str, names: Container[str]) -> str | None:
    """The class in ``<prefix>/<class>_precision``, the longest that is one: both parts may hold slashes.

    Example:
        >>> _class_of('coco/Cabinet/shelf_precision', {'shelf', 'Cabinet/shelf'})
        'Cabinet/shelf'
    """
    if not metric.endswith(SUFFIX):
        return None
    parts = metric.removesuffix(SUFFIX).split('/')
    ends = ('/'.join(parts[start:]) for start in range(len(parts)))
    return next((end for end in ends if end in names), None)
