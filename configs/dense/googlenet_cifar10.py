# GoogLeNet of torchvision for 32x32 pixels (a total stride of 8) on CIFAR-10, from scratch.
_base_ = '../_base_/cifar10.py'

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmsharp.GoogLeNet', small_images=True),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=1024, loss=dict(type='CrossEntropyLoss'), topk=(1,)),
)
