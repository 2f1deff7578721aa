# MobileNetV2 on Flowers-102, from scratch.
_base_ = ['mmpretrain::_base_/models/mobilenet_v2_1x.py', '../_base_/flowers102.py']

model = dict(head=dict(num_classes=102, topk=(1,)))
