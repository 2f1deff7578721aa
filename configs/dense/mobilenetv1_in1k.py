# MobileNetV1 on ImageNet, 90 epochs of the recipe of ResNet-50: the one that AdaSAP's authors took is not known.
_base_ = '../_base_/in1k.py'

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmsharp.MobileNetV1'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1024,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=1000),
        topk=(1, 5),
    ),
)
