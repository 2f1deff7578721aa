# AdaSAP on the dense network of configs/dense/resnet18_cifar10.py, to 0.40 of the parameters.
_base_ = '../magnitude/resnet18_cifar10.py'

optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'))
default_hooks = dict(pruning=dict(type='mmsharp.AdaSAPHook'))
