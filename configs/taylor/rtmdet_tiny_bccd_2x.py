# Taylor scores and the dense one's AdamW with twice the steps.
_base_ = '../magnitude/rtmdet_tiny_bccd_2x.py'

default_hooks = dict(pruning=dict(pruner=dict(type='mmsharp.ChannelPruner', criterion=dict(type='mmsharp.Taylor'))))
