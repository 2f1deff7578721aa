# PSAP, as we read it, on the network of configs/dense/resnet50_in1k.py: half of the multiply-accumulates are removed.
# Learning rate and epochs are those of all configs that prune this trained network (configs/adasap/, magnitude/), so
# that only the method differs. Soft filter pruning's own recipe for trained weights is gentler: a tenth of its usual
# rate, here --cfg-options optim_wrapper.optimizer.lr=0.1024.
_base_ = '../magnitude/resnet50_in1k.py'

default_hooks = dict(
    pruning=dict(
        _delete_=True,
        type='mmsharp.PSAPHook',
        budget=dict(macs=0.5),
        pruner=dict(type='mmsharp.ChannelPruner', ignore=['backbone.conv1']),
    )
)
