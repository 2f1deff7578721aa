# ResNet-50 on ImageNet, 90 epochs. The weights that mmpretrain published can take its place: configs/README.md.
_base_ = ['mmpretrain::_base_/models/resnet50.py', '../_base_/in1k.py']

model = dict(head=dict(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=1000)))
