# GoogLeNet of torchvision on CelebA-HQ, from scratch.
_base_ = '../_base_/celebahq.py'

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmsharp.GoogLeNet'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=1024, loss=dict(type='CrossEntropyLoss'), topk=(1,)),
)
