"""MMEngine metrics that configs name as ``mmsharp.<Name>``; the robust scores are computed from the toolboxes' own."""

from contextlib import suppress

from mmsharp.evaluation.certified_robustness import CertifiedRobustness
from mmsharp.evaluation.label_names import label_names

__all__ = ['CertifiedRobustness', 'label_names']

with suppress(ImportError):  # classifiers need no MMDetection
    from mmsharp.evaluation.voc_metric_by_class import VOCMetricByClass

    __all__ += ['VOCMetricByClass']
