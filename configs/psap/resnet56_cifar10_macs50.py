# PSAP, as we read it, on the published ResNet-56: half of the multiply-accumulates are removed.
_base_ = '../magnitude/resnet56_cifar10.py'

default_hooks = dict(
    pruning=dict(
        _delete_=True,
        type='mmsharp.PSAPHook',
        budget=dict(macs=0.5),
        pruner=dict(type='mmsharp.ChannelPruner', round_to=1),
    )
)
