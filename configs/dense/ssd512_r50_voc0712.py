# SSD512 of mmdet with ResNet-50 in the place of VGG-16, whose second and third stage have the strides and channels of
# the two maps of VGG-16 that SSD reads.
#
# The recipe is that of SMCP's and HALP's released code, from the same group; AdaSAP's own is not confirmed: SGD with a
# learning rate of 8e-3 for 128 images (8 GPUs, 16 each), twice that for biases, no weight decay on normalisation, 800
# epochs, 50 of them a linear warm-up, then 3/8, 1/8, 1/20 and 1/200 of the rate from epochs 600, 700, 740 and 770 on;
# SyncBN, as theirs for up to 32 images on a GPU. Departures: mmdet leaves objects marked as difficult out of the
# training, theirs keeps them; augmentation, anchors and hard negatives are mmdet's; the added layers have BN, and so
# the first map needs no L2 norm. The last map has one pixel: a GPU alone takes at least two images.
_base_ = ['mmdet::pascal_voc/ssd512_voc0712.py', '../_base_/voc0712.py']

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    data_preprocessor=dict(std=[58.395, 57.12, 57.375]),
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(1, 2),
        norm_cfg=norm_cfg,
        norm_eval=False,
        style='pytorch',
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    neck=dict(l2_norm_scale=None, norm_cfg=norm_cfg),
    bbox_head=dict(type='mmsharp.SSDHead'),
)
train_dataloader = dict(batch_size=16, dataset=dict(times=1))
train_cfg = dict(max_epochs=800, val_interval=50)
optim_wrapper = dict(
    optimizer=dict(lr=8e-3, weight_decay=2e-3),
    paramwise_cfg=dict(bias_lr_mult=2.0, norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=50, convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[600], gamma=3 / 8),
    dict(type='MultiStepLR', milestones=[700], gamma=1 / 3),
    dict(type='MultiStepLR', milestones=[740], gamma=2 / 5),
    dict(type='MultiStepLR', milestones=[770], gamma=1 / 10),
]
default_hooks = dict(checkpoint=dict(interval=10, max_keep_ckpts=2))
auto_scale_lr = dict(base_batch_size=128)
