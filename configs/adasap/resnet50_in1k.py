# AdaSAP on the dense network of configs/dense/resnet50_in1k.py, to 0.40 of the parameters.
_base_ = '../magnitude/resnet50_in1k.py'

optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'))
default_hooks = dict(pruning=dict(type='mmsharp.AdaSAPHook'))
