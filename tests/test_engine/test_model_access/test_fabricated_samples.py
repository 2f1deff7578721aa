"""Annotations that nobody has made."""

import numpy as np
import pytest
import torch

from mmsharp.engine.model_access.fabricated_samples import detection_sample, like

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


def _sample(shape, **kinds):
    pytest.importorskip('mmdet')
    return detection_sample(np.random.default_rng(5), shape, 7, **kinds)


def test_boxes_lie_in_the_image_and_masks_in_their_boxes():
    """Sides between a quarter and a half of the image's, also of one that is no square."""
    sample = _sample((40, 80), masks=True, semantics=True)
    boxes = sample.gt_instances.bboxes
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([80, 40, 80, 40])).all()
    assert (sides >= torch.tensor([20, 10])).all()
    assert (sides <= torch.tensor([40, 20])).all()
    for mask, box in zip(sample.gt_instances.masks.masks, boxes.round().int().tolist()):
        rows, columns = np.nonzero(mask)
        assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == box
    assert sample.gt_sem_seg.sem_seg.shape == (1, 40, 80)


@pytest.mark.parametrize('kinds', [dict(), dict(masks=True), dict(masks=True, semantics=True)])
def test_like_depends_on_kinds_and_shape_alone(kinds):
    """What the samples themselves hold has no influence: another batch, or another process, gets the same."""
    first = like([_sample((32, 32), **kinds)], (48, 64))
    other = detection_sample(np.random.default_rng(9), (40, 40), 3, **kinds)
    second = like([other], (48, 64))
    assert torch.equal(first.gt_instances.bboxes, second.gt_instances.bboxes)
    assert ('masks' in first.gt_instances) == ('masks' in kinds)
    assert ('gt_sem_seg' in first) == ('semantics' in kinds)
    assert first.img_shape == (48, 64)


@pytest.mark.parametrize('samples', [None, [], torch.zeros(3), [object()]])
def test_unknown_kinds_have_no_like(samples):
    """Nothing is guessed."""
    assert like(samples, (8, 8)) is None
