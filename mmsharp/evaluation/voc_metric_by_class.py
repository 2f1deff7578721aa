"""MMDetection's Pascal VOC metric, which also gives back the average precision of every class."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any
from unittest import mock

from mmdet.evaluation import VOCMetric
from mmdet.evaluation.metrics import voc_metric

from mmsharp.datasets.label_names import label_names
from mmsharp.registry import METRICS


@METRICS.register_module()
class VOCMetricByClass(VOCMetric):
    """``VOCMetric`` with ``<class>_precision`` beside ``mAP``: the class's AP, averaged over ``iou_thrs``.

    MMDetection prints the values per class and throws them away. They are taken where it computes them, so everything
    else is what ``VOCMetric`` gives, its arguments included. The names are those of ``CocoMetric(classwise=True)``,
    with the label where classes share one (see :func:`mmsharp.datasets.label_names`).
    """

    def compute_metrics(self, results: Sequence[Any]) -> 'OrderedDict[str, float]':
        """The values of the metric, and those per class."""
        computed: list[list[dict[str, Any]]] = []
        plain = voc_metric.eval_map

        def noting(*arguments: Any, **keywords: Any) -> Any:
            mean, per_class = plain(*arguments, **keywords)
            computed.append(per_class)
            return mean, per_class

        with mock.patch.object(voc_metric, 'eval_map', noting):
            values: OrderedDict[str, float] = super().compute_metrics(results)
        for label, name in enumerate(label_names(self.dataset_meta['classes'])):
            found = [float(per_class[label]['ap']) for per_class in computed if per_class[label]['num_gts'] > 0]
            values[f'{name}_precision'] = sum(found) / len(found) if found else float('nan')
        return values
