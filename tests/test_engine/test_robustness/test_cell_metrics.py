"""Metrics become numbers of a line; silence for want of detections is zero."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator

from mmsharp.engine.robustness.cell_metrics import check_evaluator, fill_empty, numbers
from mmsharp.errors import MmsharpError, deliberate_refusal


class CocoMetric(SimpleNamespace):
    """Named as MMDetection's."""


class LVISMetric(CocoMetric):
    """Named as MMDetection's, which derives from the other."""


class MultiDatasetsEvaluator(Evaluator):
    """As MMDetection's: one metric per data set, whose name begins those of its values."""

    def __init__(self, metrics, dataset_prefixes):
        super().__init__(metrics)
        self.dataset_prefixes = dataset_prefixes

    def evaluate(self, size):
        """Of no matter here."""


class OwnEvaluator(Evaluator):
    """Names its values as it likes."""

    def evaluate(self, size):
        """Of no matter here."""


def test_only_single_numbers_are_kept():
    """Scalars of any library stay, lists and texts go, NaN and infinity become None."""
    metrics = {'a': 1, 'b': np.float32(0.5), 'c': torch.tensor(2.0), 'd': np.array([3.0]), 'e': math.nan}
    others = {'list': [1.0], 'tensor': torch.ones(2), 'text': '0.3', 'flag': True}
    assert numbers(metrics | others) == {'a': 1.0, 'b': 0.5, 'c': 2.0, 'd': 3.0, 'e': None}


def test_a_silent_coco_metric_counts_as_zero():
    """Known names are filled in; without any, the metric's main name; other values are not touched."""
    values = {'time': 1.0}
    fill_empty(values, Evaluator([CocoMetric(prefix='coco')]), ['coco/bbox_mAP', 'coco/bbox_mAP_50', 'time'])
    assert values == {'time': 1.0, 'coco/bbox_mAP': 0.0, 'coco/bbox_mAP_50': 0.0}
    for metric, name in (
        (CocoMetric(prefix='coco'), 'coco/bbox_mAP'),
        (CocoMetric(prefix='coco', metrics=['segm']), 'coco/segm_mAP'),
        (LVISMetric(prefix='lvis', metrics=['bbox']), 'lvis/bbox_AP'),
    ):
        values = {}
        fill_empty(values, Evaluator(metric), [])
        assert values == {name: 0.0}
    for untouched in ({'coco/bbox_mAP': 0.4}, {'coco/bbox_mAP': None}):
        values = dict(untouched)
        metrics = [CocoMetric(prefix='coco'), SimpleNamespace(prefix='x')]
        fill_empty(values, Evaluator(metrics), ['coco/bbox_mAP_50', 'x/y'])
        assert values == untouched


def test_of_several_data_sets_the_silent_one_counts_as_zero():
    """Under its own name; nothing is entered beside values that are there."""
    metrics = [CocoMetric(prefix='coco'), CocoMetric(prefix='coco')]
    evaluator = MultiDatasetsEvaluator(metrics, ['A', 'B'])
    whole = {'A/coco/bbox_mAP': 0.4, 'B/coco/bbox_mAP': 0.3}
    values = dict(whole)
    fill_empty(values, evaluator, [])
    assert values == whole
    values = {'A/coco/bbox_mAP': 0.4}
    fill_empty(values, evaluator, ['B/coco/bbox_mAP_50'])
    assert values == {'A/coco/bbox_mAP': 0.4, 'B/coco/bbox_mAP_50': 0.0}


@pytest.mark.parametrize(
    'evaluator',
    [Evaluator(CocoMetric(prefix='coco', format_only=True)), OwnEvaluator(CocoMetric(prefix='coco'))],
)
def test_silence_of_another_cause_stays_silence(evaluator):
    """A metric that only writes predictions, and values under names that are not known."""
    values = {}
    fill_empty(values, evaluator, ['coco/bbox_mAP'])
    assert values == {}


def test_evaluators_without_a_score_are_refused():
    """Where nothing is computed; and where data sets are evaluated apart, until one metric is named."""
    with pytest.raises(MmsharpError, match='CocoMetric with format_only=True writes predictions'):
        check_evaluator(Evaluator(CocoMetric(prefix='coco', format_only=True)))
    check_evaluator(Evaluator([CocoMetric(prefix='coco', format_only=True), CocoMetric(prefix='coco')]))
    several = MultiDatasetsEvaluator([CocoMetric(prefix='coco'), CocoMetric(prefix='coco')], ['A', 'B'])
    with pytest.raises(MmsharpError, match=r'evaluates A, B apart.*--metric.*for example A/coco/bbox_mAP'):
        check_evaluator(several)
    check_evaluator(several, 'B/coco/bbox_mAP')


def test_a_workers_refusal_is_the_last_line_of_its_traceback():
    """The data loader passes the whole traceback on as the message."""
    text = 'Caught MmsharpError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  x\n'
    error = MmsharpError(f'{text}mmsharp.errors.MmsharpError: cannot read image a: b.jpg: cut\n')
    assert deliberate_refusal(error) == 'cannot read image a: b.jpg: cut'
