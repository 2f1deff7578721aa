# AdaSAP on the dense detector of configs/dense/rtmdet_tiny_bccd.py.
_base_ = '../magnitude/rtmdet_tiny_bccd.py'

optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'))
default_hooks = dict(pruning=dict(type='mmsharp.AdaSAPHook'))
