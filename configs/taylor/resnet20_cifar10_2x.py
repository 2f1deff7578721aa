# Taylor scores and plain SGD with twice the steps.
_base_ = '../magnitude/resnet20_cifar10_2x.py'

default_hooks = dict(pruning=dict(pruner=dict(type='mmsharp.ChannelPruner', criterion=dict(type='mmsharp.Taylor'))))
