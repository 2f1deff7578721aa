# AdaSAP on the dense detector of configs/dense/retinanet_r18_bccd.py.
_base_ = '../magnitude/retinanet_r18_bccd.py'

optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'))
default_hooks = dict(pruning=dict(type='mmsharp.AdaSAPHook'))
