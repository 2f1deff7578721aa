"""The metric gives the values of MMDetection's, and the AP of every class beside them."""

import numpy as np
import pytest
import torch
from mmdet.evaluation import VOCMetric
from mmdet.evaluation.functional import eval_map

from mmsharp.evaluation import VOCMetricByClass

pytestmark = pytest.mark.filterwarnings('ignore')  # numpy warns of the class without objects

CLASSES = ('cat', 'dog', 'emu')
META = {'classes': CLASSES, 'dataset_type': 'VOC2007'}


def _boxes(count, seed):
    corner = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 50
    return torch.cat([corner, corner + 20], dim=1)


def _samples():
    samples = []
    for number in range(6):
        truth = _boxes(3, number)
        found = torch.cat([truth + number, _boxes(2, 100 + number)])
        samples.append(
            {
                'gt_instances': {'bboxes': truth, 'labels': torch.tensor([0, 1, 1])},
                'ignored_instances': {'bboxes': torch.zeros(0, 4), 'labels': torch.zeros(0, dtype=torch.long)},
                'pred_instances': {
                    'bboxes': found,
                    'scores': torch.rand(5, generator=torch.Generator().manual_seed(number)),
                    'labels': torch.tensor([0, 1, 1, 0, 1]),
                },
            }
        )
    return samples


@pytest.mark.parametrize('thresholds', [0.5, [0.5, 0.7]])
def test_per_class_against_the_function_that_it_rests_on(thresholds):
    """Averaged over the thresholds; a class without objects is undefined; the mean is untouched."""
    values = {}
    for kind in (VOCMetric, VOCMetricByClass):
        metric = kind(iou_thrs=thresholds, eval_mode='11points')
        metric.dataset_meta = META
        metric.process({}, _samples())
        values[kind] = metric.compute_metrics(metric.results)
    plain, found = values[VOCMetric], values[VOCMetricByClass]
    assert {name: found[name] for name in plain} == plain
    results = metric.results
    expected = np.mean(
        [
            [
                entry['ap']
                for entry in eval_map(
                    [item[1] for item in results],
                    [item[0] for item in results],
                    iou_thr=threshold,
                    dataset='voc',
                    eval_mode='11points',
                    use_legacy_coordinate=True,
                )[1]
            ]
            for threshold in np.atleast_1d(thresholds)
        ],
        axis=0,
    )
    assert found['cat_precision'] == pytest.approx(expected[0])
    assert found['dog_precision'] == pytest.approx(expected[1])
    assert 0 < found['cat_precision'] != found['dog_precision']
    assert np.isnan(found['emu_precision'])
