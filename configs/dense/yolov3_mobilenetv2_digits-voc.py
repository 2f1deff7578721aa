# YOLOv3-MobileNetV2 as mmdet ships it, on Digits-VOC: only data, classes, input size, schedule and initialisation
# differ.
_base_ = 'mmdet::yolo/yolov3_mobilenetv2_8xb24-320-300e_coco.py'

classes = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
image_size = (96, 96)
max_epochs = 14
base_lr = 0.02

# Trained from scratch, so that nothing is downloaded and every layer learns.
model = dict(
    backbone=dict(init_cfg=None),
    bbox_head=dict(num_classes=len(classes)),
)

# No flips: a mirrored two is no two.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.9, 1.1), keep_ratio=True),
    dict(type='RandomCrop', crop_size=image_size, recompute_bbox=True, allow_negative_crop=True),
    dict(type='Pad', size=image_size),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
dataset = dict(
    type='VOCDataset',
    data_root='data/digits_voc/VOC2007/',
    data_prefix=dict(sub_data_root=''),
    metainfo=dict(classes=classes),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(
        _delete_=True,
        ann_file='ImageSets/Main/train.txt',
        filter_cfg=dict(filter_empty_gt=True, min_size=8, bbox_min_size=4),
        pipeline=train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=25,
    num_workers=1,
    dataset=dict(_delete_=True, ann_file='ImageSets/Main/val.txt', test_mode=True, pipeline=test_pipeline, **dataset),
)
test_dataloader = dict(
    batch_size=25,
    num_workers=1,
    dataset=dict(_delete_=True, ann_file='ImageSets/Main/test.txt', test_mode=True, pipeline=test_pipeline, **dataset),
)
val_evaluator = dict(_delete_=True, type='VOCMetric', metric='mAP', eval_mode='area')
test_evaluator = dict(_delete_=True, type='VOCMetric', metric='mAP', eval_mode='area')

train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=base_lr), clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', T_max=max_epochs, eta_min=base_lr * 0.02, convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1, max_keep_ckpts=2))
auto_scale_lr = dict(base_batch_size=16)
randomness = dict(seed=0)
