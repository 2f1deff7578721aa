# RTMDet-tiny as mmdet ships it, on the blood cells of BCCD: only data, classes, input size, schedule and initialisation
# differ, so that it trains from scratch on two cores.
#     ln -s "$MMSHARP_DATA/bccd" data/bccd
_base_ = ['mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py', '../_base_/robustness/voc_c.py']

classes = ('RBC', 'WBC', 'Platelets')
image_size = (320, 240)
max_epochs = 60
base_lr = 0.002

model = dict(
    backbone=dict(init_cfg=None),
    bbox_head=dict(num_classes=len(classes)),
    data_preprocessor=dict(pad_size_divisor=32),
)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.8, 1.2), keep_ratio=True),
    dict(type='RandomCrop', crop_size=image_size, recompute_bbox=True, allow_negative_crop=True),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5, direction=['horizontal', 'vertical']),
    dict(type='Pad', size=image_size, pad_val=dict(img=(114, 114, 114))),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
dataset = dict(
    type='VOCDataset',
    data_root='data/bccd/BCCD/',
    data_prefix=dict(sub_data_root=''),
    metainfo=dict(classes=classes),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        _delete_=True,
        ann_file='ImageSets/Main/train.txt',
        filter_cfg=dict(filter_empty_gt=True, min_size=32, bbox_min_size=4),
        pipeline=train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(_delete_=True, ann_file='ImageSets/Main/val.txt', test_mode=True, pipeline=test_pipeline, **dataset),
)
test_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(_delete_=True, ann_file='ImageSets/Main/test.txt', test_mode=True, pipeline=test_pipeline, **dataset),
)
val_evaluator = dict(_delete_=True, type='VOCMetric', metric='mAP', eval_mode='area')
test_evaluator = dict(_delete_=True, type='VOCMetric', metric='mAP', eval_mode='area')

train_cfg = dict(max_epochs=max_epochs, val_interval=4, dynamic_intervals=None)
optim_wrapper = dict(optimizer=dict(lr=base_lr), clip_grad=dict(max_norm=35.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', eta_min=base_lr * 0.05, begin=30, end=60, T_max=30, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=4, max_keep_ckpts=2, save_best='pascal_voc/mAP', rule='greater'))
custom_hooks = [
    dict(
        type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0002, update_buffers=True, priority=49, strict_load=False
    )
]
auto_scale_lr = dict(base_batch_size=8)
randomness = dict(seed=0)
