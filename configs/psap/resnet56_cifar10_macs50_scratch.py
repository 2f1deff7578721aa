# PSAP, as we read it, from scratch in the epochs of the dense training: half of the multiply-accumulates are removed.
# The soft phase is three quarters of it: with random weights it takes training to know what a filter is worth.
_base_ = '../dense/resnet56_cifar10.py'

default_hooks = dict(
    pruning=dict(
        type='mmsharp.PSAPHook',
        budget=dict(macs=0.5),
        pruning=0.75,
        pruner=dict(type='mmsharp.ChannelPruner', round_to=1),
    )
)
