# RTMDet-tiny as mmdet ships it, on Pascal VOC: only data, classes and schedule differ.
#
# The pipeline is that of the stock config's last epochs, without mosaic and mix-up, in all of 100 epochs: the hook that
# changes pipelines does not reach the data sets inside of a ConcatDataset. The learning rate is the stock one, for
# 8 GPUs with 32 images each.
_base_ = ['mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py', '../_base_/voc0712.py']

voc = dict(type='VOCDataset', data_root='data/VOCdevkit/')
test = dict(
    ann_file='VOC2007/ImageSets/Main/test.txt',
    data_prefix=dict(sub_data_root='VOC2007/'),
    test_mode=True,
    pipeline=_base_.test_pipeline,
    **voc,
)
metric = dict(type='VOCMetric', metric='mAP', eval_mode='11points')

model = dict(bbox_head=dict(num_classes=20))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        ignore_keys=['dataset_type'],
        datasets=[
            dict(
                ann_file=f'VOC{year}/ImageSets/Main/trainval.txt',
                data_prefix=dict(sub_data_root=f'VOC{year}/'),
                filter_cfg=dict(filter_empty_gt=True, min_size=32, bbox_min_size=32),
                pipeline=_base_.train_pipeline_stage2,
                **voc,
            )
            for year in (2007, 2012)
        ],
    )
)
val_dataloader = dict(dataset=dict(_delete_=True, **test))
test_dataloader = dict(dataset=dict(_delete_=True, **test))
val_evaluator = dict(_delete_=True, **metric)
test_evaluator = dict(_delete_=True, **metric)

train_cfg = dict(max_epochs=100, val_interval=10, dynamic_intervals=None)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=1000),
    dict(type='CosineAnnealingLR', eta_min=0.0002, begin=50, end=100, T_max=50, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=2))
custom_hooks = [dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0002, update_buffers=True, priority=49)]
auto_scale_lr = dict(base_batch_size=256)
