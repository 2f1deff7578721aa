# PSAP, as we read it, from scratch in the epochs of the dense training: 70 % of the multiply-accumulates are removed.
_base_ = './resnet56_cifar10_macs50_scratch.py'

default_hooks = dict(pruning=dict(budget=dict(macs=0.3)))
