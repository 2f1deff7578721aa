# AdaSAP on the dense detector of configs/dense/rtmdet_tiny_voc0712.py, to 0.40 of the parameters.
_base_ = '../magnitude/rtmdet_tiny_voc0712.py'

optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'))
default_hooks = dict(pruning=dict(type='mmsharp.AdaSAPHook'))
