"""MMEngine metrics that configs name as ``mmsharp.<Name>``; the robust scores are computed from the toolboxes' own."""

from contextlib import suppress

from mmsharp.evaluation.certified_robustness import CertifiedRobustness

__all__ = ['CertifiedRobustness']

with suppress(ImportError):  # classifiers need no MMDetection
    from mmsharp.evaluation.voc_metric_by_class import VOCMetricByClass

    __all__ += ['VOCMetricByClass']
