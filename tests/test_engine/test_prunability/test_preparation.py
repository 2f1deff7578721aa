"""A packaged config as it is measured."""

import copy

from mmengine.config import Config

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


def test_the_config_is_left_as_it_was(tmp_path):
    """A copy is prepared."""
    config = _config()
    before = copy.deepcopy(config.to_dict())
    prepared(config, tmp_path)
    assert config.to_dict() == before
