# The baseline of configs/csam/resnet20_cifar10.py: the smallest weights of every layer go before the first step, and
# plain SGD trains the others for as many epochs.
_base_ = '../csam/resnet20_cifar10.py'

default_hooks = dict(pruning=dict(search=0))
