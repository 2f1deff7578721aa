"""SSD's head: the toolbox's fails where ours predicts, and they learn from the same loss."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from real_models import scenes

from mmsharp.models import ssd_head

pytest.importorskip('mmdet')
pytestmark = pytest.mark.filterwarnings('ignore')  # mmdet warns of its own optional parts

HEAD = dict(
    num_classes=10,
    in_channels=(8, 8),
    anchor_generator=dict(
        type='SSDAnchorGenerator',
        scale_major=False,
        min_sizes=[16, 32],
        max_sizes=[32, 64],
        strides=[8, 16],
        ratios=[[2], [2, 3]],
    ),
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.5,
            min_pos_iou=0.0,
            ignore_iof_thr=-1,
            gt_max_assign_all=False,
        ),
        sampler=dict(type='PseudoSampler'),
        smoothl1_beta=1.0,
        allowed_border=-1,
        pos_weight=-1,
        neg_pos_ratio=3,
    ),
    test_cfg=dict(
        nms_pre=100, nms=dict(type='nms', iou_threshold=0.45), min_bbox_size=0, score_thr=0.02, max_per_img=20
    ),
)


def head_of(kind):
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(0)
        head = MODELS.build(ConfigDict(copy.deepcopy(HEAD), type=kind))
        head.init_weights()
    return head


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(2, 8, side, side, generator=generator) for side in (8, 4))


def test_the_toolbox_s_own_trains_and_cannot_predict(maps):
    """Where this fails the toolbox is mended, and ours can go."""
    head = head_of('SSDHead')
    samples = scenes(0)['data_samples']
    assert all(torch.isfinite(part).all() for part in head.loss(maps, samples)['loss_cls'])
    with pytest.raises(AttributeError, match='loss_cls'):
        head.predict(maps, samples)


def test_ours_predicts(maps):
    """Boxes with scores of the classes, background left out."""
    found = head_of('mmsharp.SSDHead').eval().predict(maps, scenes(0)['data_samples'])
    assert len(found) == 2
    for image in found:
        assert 0 < len(image) <= 20
        assert image.labels.max() < 10
        assert ((image.scores > 0.02) & (image.scores <= 1)).all()


def test_both_learn_the_same(maps):
    """Same class, names of weights, weights of one seed, losses and gradients."""
    theirs, ours = head_of('SSDHead'), head_of('mmsharp.SSDHead')
    assert type(ours) is type(theirs)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for head in (theirs, ours):
        losses = head.loss(maps, scenes(0)['data_samples'])
        sum(sum(parts) for parts in losses.values()).sum().backward()
        head.seen = losses
    assert all(torch.equal(*pair) for key in theirs.seen for pair in zip(theirs.seen[key], ours.seen[key]))
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(theirs.parameters(), ours.parameters()))


def test_a_mended_toolbox_keeps_its_attribute(monkeypatch):
    """What the head brings is left to it."""
    from mmdet.models import SSDHead

    monkeypatch.setattr(SSDHead, 'loss_cls', 'theirs', raising=False)
    with DefaultScope.overwrite_default_scope('mmdet'):
        assert ssd_head(**ConfigDict(copy.deepcopy(HEAD))).loss_cls == 'theirs'
