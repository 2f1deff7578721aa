# Half of the parameters: configs/adasap/resnet20_cifar10.py to 0.50 of the parameters.
_base_ = 'resnet20_cifar10.py'

default_hooks = dict(pruning=dict(budget=dict(params=0.5)))
