# MobileNetV2 on ImageNet, 90 epochs of the recipe of ResNet-50: the one that AdaSAP's authors took is not known.
_base_ = ['mmpretrain::_base_/models/mobilenet_v2_1x.py', '../_base_/in1k.py']

model = dict(head=dict(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=1000)))
