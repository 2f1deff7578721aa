"""A packaged config as it is measured."""

import copy

import torch
from mmengine.config import Config
from torch import nn

from mmsharp.engine.prunability import preparation
from mmsharp.engine.prunability.preparation import FEW_PROPOSALS, prepared


def _config():
    return Config(
        dict(
            model=dict(
                type='LAD',
                data_preprocessor=dict(type='DetDataPreprocessor', batch_augments=[dict(type='BatchFixedSizePad')]),
                backbone=dict(type='ResNet', norm_cfg=dict(type='SyncBN')),
                teacher_config='configs/gfl/teacher.py',
                teacher_ckpt='https://somewhere/teacher.pth',
                train_cfg=dict(rpn_proposal=dict(nms_pre=2000, max_per_img=1000)),
                test_cfg=dict(rpn=dict(max_per_img=20), rcnn=dict(max_per_img=100)),
            )
        )
    )


def test_what_takes_time_or_a_network_is_left_out(tmp_path):
    """Downloads, full-size batches, other processes and many proposals; predictions stay as they are."""
    model = prepared(_config(), tmp_path).model
    assert model.teacher_ckpt is None
    assert model.teacher_config == str(tmp_path / 'gfl' / 'teacher.py')
    assert model.backbone.norm_cfg.type == 'BN'
    assert model.data_preprocessor.batch_augments is None
    assert model.train_cfg.rpn_proposal.max_per_img == FEW_PROPOSALS
    assert (model.test_cfg.rpn.max_per_img, model.test_cfg.rcnn.max_per_img) == (20, 100)
    assert (model.test_cfg.rpn.min_bbox_size, 'min_bbox_size' in model.test_cfg.rcnn) == (-1, False)


def test_the_config_is_left_as_it_was(tmp_path):
    """A copy is prepared."""
    config = _config()
    before = copy.deepcopy(config.to_dict())
    prepared(config, tmp_path)
    assert config.to_dict() == before


def test_weights_that_nobody_sets_are_drawn(monkeypatch):
    """Memory as it happens to be would make a measurement one of its own."""

    class Unset(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.Tensor(4, 3, 3, 3))

    monkeypatch.setattr(preparation, 'build_model', lambda config: Unset())
    first, second = (preparation.build(Config(), seed=0).weight for _ in range(2))
    assert first.std() > 0.1
    assert torch.equal(first, second)
    assert not torch.are_deterministic_algorithms_enabled()
