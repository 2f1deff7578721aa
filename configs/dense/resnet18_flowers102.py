# ResNet-18 on Flowers-102, from scratch.
_base_ = ['mmpretrain::_base_/models/resnet18.py', '../_base_/flowers102.py']

model = dict(head=dict(num_classes=102, topk=(1,)))
