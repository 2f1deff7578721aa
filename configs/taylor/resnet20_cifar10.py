# Taylor scores and plain SGD, to 0.40 of the parameters.
_base_ = '../magnitude/resnet20_cifar10.py'

default_hooks = dict(pruning=dict(pruner=dict(type='mmsharp.ChannelPruner', criterion=dict(type='mmsharp.Taylor'))))
