# PSAP, as we read it, on the network of configs/dense/resnet50_in1k.py: half of the multiply-accumulates are removed.
_base_ = '../magnitude/resnet50_in1k.py'

default_hooks = dict(
    pruning=dict(
        _delete_=True,
        type='mmsharp.PSAPHook',
        budget=dict(macs=0.5),
        pruner=dict(type='mmsharp.ChannelPruner', ignore=['backbone.conv1']),
    )
)
