# AdaSAP on the published ResNet-20 (91.7 %) for CIFAR-10; the head of configs/magnitude/resnet20_cifar10.py says how to
# convert it.
_base_ = '../magnitude/resnet20_cifar10.py'

optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'))
default_hooks = dict(pruning=dict(type='mmsharp.AdaSAPHook'))
