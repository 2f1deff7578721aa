"""A two-stage detector through the hook: region proposals, extraction of regions and both heads shrink together."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmsharp.engine.model_access.fabricated_samples import detection_sample
from mmsharp.pruning import count_parameters

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


@DATASETS.register_module(force=True)
class FixedScenes(Dataset):
    """Eight random images of two sizes with random boxes, the same in every run."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict:
        generator = np.random.default_rng(index)
        shape = (64, 64) if index % 2 else (64, 96)
        image = torch.from_numpy(generator.integers(0, 256, (3, *shape), dtype=np.uint8))
        return dict(inputs=image, data_samples=detection_sample(generator, shape, 2))


def _model():
    anchors = dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[8, 16])
    overlaps = dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.3, min_pos_iou=0.3, ignore_iof_thr=-1)
    samples = dict(type='RandomSampler', num=16, pos_fraction=0.5, neg_pos_ub=-1)
    proposals = dict(nms_pre=50, max_per_img=20, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)
    return dict(
        type='FasterRCNN',
        data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
        backbone=dict(
            type='ResNet',
            depth=18,
            base_channels=8,
            stem_channels=8,
            out_indices=(1, 2),
            norm_eval=True,
            frozen_stages=1,
        ),
        neck=dict(type='FPN', in_channels=[16, 32], out_channels=16, num_outs=2),
        rpn_head=dict(
            type='RPNHead',
            in_channels=16,
            feat_channels=16,
            anchor_generator=anchors,
            bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
            loss_bbox=dict(type='L1Loss'),
        ),
        roi_head=dict(
            type='StandardRoIHead',
            bbox_roi_extractor=dict(
                type='SingleRoIExtractor',
                roi_layer=dict(type='RoIAlign', output_size=3, sampling_ratio=0),
                out_channels=16,
                featmap_strides=[8, 16],
            ),
            bbox_head=dict(
                type='Shared2FCBBoxHead',
                in_channels=16,
                fc_out_channels=24,
                roi_feat_size=3,
                num_classes=2,
                bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
                loss_bbox=dict(type='L1Loss'),
            ),
        ),
        train_cfg=dict(
            rpn=dict(
                assigner=overlaps,
                sampler=dict(samples, add_gt_as_proposals=False),
                allowed_border=-1,
                pos_weight=-1,
                debug=False,
            ),
            rpn_proposal=proposals,
            rcnn=dict(assigner=overlaps, sampler=samples, pos_weight=-1, debug=False),
        ),
        test_cfg=dict(
            rpn=proposals, rcnn=dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10)
        ),
    )


PRUNING = dict(
    budget=dict(params=0.6),
    pruner=dict(type='mmsharp.ChannelPruner', round_to=2),
    warmup=0.0,
    pruning=0.5,
    interval=2,
)
HOOKS = ['mmsharp.PruningHook', 'mmsharp.PSAPHook']


def _runner(tmp_path, hook, resume=None):
    config = dict(
        default_scope='mmdet',
        model=_model(),
        work_dir=str(tmp_path),
        experiment_name=f'{tmp_path.parent.name}_{tmp_path.name}_{resume is None}',
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            dataset=dict(type='FixedScenes'),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=3, val_interval=1000),
        optim_wrapper=dict(
            type='mmsharp.SAMOptimWrapper',
            ascent=dict(type='SAM', rho=0.01),
            optimizer=dict(type='SGD', lr=1e-4, momentum=0.9),
        ),
        custom_hooks=[dict(type='mmsharp.RNGStateHook')],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1000),
            checkpoint=dict(type='CheckpointHook', interval=1),
            pruning=dict(PRUNING, type=hook),
        ),
        randomness=dict(seed=0),
        log_level='WARNING',
        load_from=None if resume is None else str(resume),
        resume=resume is not None,
    )
    return Runner.from_cfg(Config(config))


@pytest.mark.parametrize('hook', HOOKS)
def test_a_two_stage_detector_is_pruned_slimmed_and_resumed(tmp_path, hook):
    """The neck, which both heads and the extractor of regions read, shrinks; a resumed run ends bitwise the same."""
    pytest.importorskip('mmdet')
    runner = _runner(tmp_path, hook)
    dense = count_parameters(runner.model)
    runner.train()
    model = runner.model
    assert count_parameters(model) <= 0.6 * dense
    width = model.neck.fpn_convs[0].conv.out_channels
    assert model.roi_head.bbox_roi_extractor.out_channels == model.rpn_head.rpn_conv.in_channels == width < 16
    resumed = _runner(tmp_path, hook, resume=tmp_path / 'epoch_1.pth')
    resumed.train()
    expected = model.state_dict()
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
