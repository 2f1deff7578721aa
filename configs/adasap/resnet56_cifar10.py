# AdaSAP on the dense network of configs/dense/resnet56_cifar10.py, to 0.40 of the parameters.
_base_ = '../magnitude/resnet56_cifar10.py'

optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'))
default_hooks = dict(pruning=dict(type='mmsharp.AdaSAPHook'))
