# AdaSAP with Taylor scores for what is pruned, to 0.40 of the parameters.
_base_ = '../taylor/rtmdet_tiny_bccd.py'

optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'))
default_hooks = dict(pruning=dict(type='mmsharp.AdaSAPHook'))
