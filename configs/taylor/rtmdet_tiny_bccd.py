# Taylor scores and the dense one's AdamW, to 0.40 of the parameters.
_base_ = '../magnitude/rtmdet_tiny_bccd.py'

default_hooks = dict(pruning=dict(pruner=dict(type='mmsharp.ChannelPruner', criterion=dict(type='mmsharp.Taylor'))))
