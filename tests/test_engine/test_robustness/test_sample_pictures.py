"""Sample pictures show predictions of any form, and are never what an evaluation fails by."""

import json

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from mmpretrain.structures import DataSample

import mmsharp.apis.robustness
from mmsharp.apis import evaluate_robustness
from mmsharp.engine.robustness.sample_pictures import paint, upright
from mmsharp.errors import MmsharpError

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

CLASSES = ('square', 'disc', 'line')
PICTURE = np.zeros((32, 32, 3), dtype=np.uint8)
GREEN, RED = [26, 152, 80], [215, 48, 39]


@pytest.mark.parametrize(
    ('predicted', 'truth', 'text', 'frame'),
    [
        ([], [0], 'no label', RED),
        ([], [], 'no label', GREEN),
        ([2, 0], [0, 2], 'line, square', GREEN),
        ([1], [1], 'disc 0.75', GREEN),
        ([1], [1, 2], 'disc 0.75', RED),
    ],
)
def test_a_picture_may_have_any_number_of_labels(predicted, truth, text, frame):
    """Right is who names all of them and no other."""
    sample = DataSample().set_pred_label(torch.tensor(predicted, dtype=torch.long))
    sample.set_gt_label(torch.tensor(truth, dtype=torch.long)).set_pred_score(torch.tensor([0.5, 0.75, 0.1]))
    painted, caption = paint(PICTURE, sample, CLASSES, 0.3)
    assert caption == text
    assert painted[0, 0].tolist() == frame


@pytest.mark.parametrize(
    'box', [[4.0, 8.0, 20.0, 16.0], [12.0, 12.0, 8.0, 16.0, np.pi / 2], [4.0, 12.0, 12.0, 8.0, 20.0, 12.0, 12.0, 16.0]]
)
def test_boxes_of_every_kind_are_painted_upright(box):
    """The same rectangle as two corners, rotated, and as what goes around a quadrilateral."""
    instances = InstanceData(
        bboxes=torch.tensor([box]), scores=torch.tensor([0.9]), labels=torch.tensor([1], dtype=torch.long)
    )
    painted, caption = paint(PICTURE, DetDataSample(pred_instances=instances), CLASSES, 0.3)
    wanted = DetDataSample(pred_instances=instances.clone())
    wanted.pred_instances.bboxes = torch.tensor([[4.0, 8.0, 20.0, 16.0]])
    assert caption == '1 detections'
    assert np.array_equal(painted, paint(PICTURE, wanted, CLASSES, 0.3)[0])


def test_boxes_that_are_not_known_are_named():
    """By how many numbers they have; an empty list of known ones is no error."""
    with pytest.raises(MmsharpError, match='boxes of 6 numbers'):
        upright(np.zeros((2, 6)))
    assert [upright(np.zeros((0, width))).shape for width in (4, 5, 8)] == [(0, 4)] * 3


@pytest.mark.parametrize(('broken', 'note'), [('take_samples', 'no pictures'), ('preprocessed_inputs', 'not measured')])
def test_what_cannot_be_shown_costs_nothing_else(classifier, tmp_path, monkeypatch, broken, note):
    """Summary, tables and report are there, and say what is not."""

    def fail(*args):
        raise IndexError('of no\nform that is known')

    monkeypatch.setattr(mmsharp.apis.robustness, broken, fail)
    summary = evaluate_robustness(*classifier, tmp_path, 'fog', [0, 3], samples=1)
    message = f'{note}: IndexError: of no form that is known'
    assert summary['model']['notes'] == message
    assert summary['model']['parameters'] > 0
    assert json.loads((tmp_path / 'summary.json').read_text())['model']['notes'] == message
    assert message in (tmp_path / 'report.html').read_text()
    assert {'summary.md', 'cells.csv'} <= {path.name for path in tmp_path.iterdir()}
