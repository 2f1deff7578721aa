# ResNet-20 of He et al. on CIFAR-10, from scratch. Its published weights are converted by
# tools/model_converters/cifar_resnet.py.
_base_ = '../_base_/cifar10.py'

model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmsharp.CIFARResNet', depth=20),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=64, loss=dict(type='CrossEntropyLoss'), topk=(1,)),
)
