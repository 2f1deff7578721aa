# PSAP, as we read it, on the published ResNet-56: 70 % of the multiply-accumulates are removed.
_base_ = './resnet56_cifar10_macs50.py'

default_hooks = dict(pruning=dict(budget=dict(macs=0.3)))
