# GoogLeNet of torchvision on Flowers-102, from scratch.
_base_ = '../_base_/flowers102.py'

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmsharp.GoogLeNet'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=102, in_channels=1024, loss=dict(type='CrossEntropyLoss'), topk=(1,)),
)
