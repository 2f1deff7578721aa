# mmpretrain's ResNet-18 for CIFAR on CIFAR-10, from scratch.
_base_ = ['mmpretrain::_base_/models/resnet18_cifar.py', '../_base_/cifar10.py']

model = dict(head=dict(topk=(1,)))
