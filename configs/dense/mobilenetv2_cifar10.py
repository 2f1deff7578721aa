# MobileNetV2 with a total stride of 8 on CIFAR-10, from scratch.
_base_ = ['mmpretrain::_base_/models/mobilenet_v2_1x.py', '../_base_/cifar10.py']

model = dict(backbone=dict(type='mmsharp.CIFARMobileNetV2'), head=dict(num_classes=10, topk=(1,)))
