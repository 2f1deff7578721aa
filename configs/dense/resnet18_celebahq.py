# ResNet-18 on CelebA-HQ, from scratch.
_base_ = ['mmpretrain::_base_/models/resnet18.py', '../_base_/celebahq.py']

model = dict(head=dict(num_classes=2, topk=(1,)))
