"""Values per class: ask the toolboxes' metrics for them, and find them in what they return."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from mmsharp.engine.robustness.cell_metrics import numbers
from mmsharp.errors import MmsharpError
from mmsharp.robustness import CLASS_PREFIX
from mmsharp.type_names import type_name

SUFFIX = '_precision'
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
    """The values per class in what an evaluator returned, as ``class/<name>``.

    Args:
        metrics: Its return value.
        classes: The names, in the order of the labels.

    Example:
        >>> class_values({'coco/bbox_mAP': 0.4, 'coco/dog_precision': 0.5}, ['cat', 'dog'])
        {'class/dog': 0.5}
        >>> class_values({'single-label/recall_classwise': [80.0, float('nan')]}, ['cat', 'dog'])
        {'class/cat': 80.0, 'class/dog': None}
    """
    found: dict[str, Any] = {}
    recalls = metrics.get(RECALL)
    if recalls is not None:
        found.update({f'{CLASS_PREFIX}{name}': value for name, value in zip(classes, recalls, strict=True)})
    for name in classes:
        for metric, value in metrics.items():
            if metric.rsplit('/', 1)[-1] == f'{name}{SUFFIX}':
                found[f'{CLASS_PREFIX}{name}'] = value
    return numbers(found)
