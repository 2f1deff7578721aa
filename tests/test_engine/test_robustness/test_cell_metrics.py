"""Metrics become numbers of a line; silence for want of detections is zero."""

import math
from types import SimpleNamespace

import numpy as np
import torch

from mmsharp.engine.robustness.cell_metrics import fill_empty, numbers
from mmsharp.errors import MmsharpError, deliberate_refusal


class CocoMetric(SimpleNamespace):
    """Named as MMDetection's."""


def test_only_single_numbers_are_kept():
    """Scalars of any library stay, lists and texts go, NaN and infinity become None."""
    metrics = {'a': 1, 'b': np.float32(0.5), 'c': torch.tensor(2.0), 'd': np.array([3.0]), 'e': math.nan}
    others = {'list': [1.0], 'tensor': torch.ones(2), 'text': '0.3', 'flag': True}
    assert numbers(metrics | others) == {'a': 1.0, 'b': 0.5, 'c': 2.0, 'd': 3.0, 'e': None}


def test_a_silent_coco_metric_counts_as_zero():
    """Known names are filled in; without any, the metric's main name; other values are not touched."""
    values = {'time': 1.0}
    fill_empty(values, [CocoMetric(prefix='coco')], ['coco/bbox_mAP', 'coco/bbox_mAP_50', 'time'])
    assert values == {'time': 1.0, 'coco/bbox_mAP': 0.0, 'coco/bbox_mAP_50': 0.0}
    values = {}
    fill_empty(values, [CocoMetric(prefix='coco')], [])
    assert values == {'coco/bbox_mAP': 0.0}
    for untouched in ({'coco/bbox_mAP': 0.4}, {'coco/bbox_mAP': None}):
        values = dict(untouched)
        fill_empty(values, [CocoMetric(prefix='coco'), SimpleNamespace(prefix='x')], ['coco/bbox_mAP_50', 'x/y'])
        assert values == untouched


def test_a_workers_refusal_is_the_last_line_of_its_traceback():
    """The data loader passes the whole traceback on as the message."""
    text = 'Caught MmsharpError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  x\n'
    error = MmsharpError(f'{text}mmsharp.errors.MmsharpError: cannot read image a: b.jpg: cut\n')
    assert deliberate_refusal(error) == 'cannot read image a: b.jpg: cut'
