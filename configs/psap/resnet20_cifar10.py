# PSAP, as we read it, on the published ResNet-20: data, epochs, schedule and budget of the baseline. Layers of 16
# channels can choose their ratio only where channels go one by one.
_base_ = '../magnitude/resnet20_cifar10.py'

default_hooks = dict(
    pruning=dict(
        _delete_=True,
        type='mmsharp.PSAPHook',
        budget=dict(params=0.4),
        pruner=dict(type='mmsharp.ChannelPruner', round_to=1),
    )
)
