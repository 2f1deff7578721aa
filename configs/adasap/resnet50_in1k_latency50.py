# AdaSAP around HALP, to 0.50 of the latency on your device. How to measure the table is said in
# configs/halp/resnet50_in1k_latency50.py.
_base_ = '../halp/resnet50_in1k_latency50.py'

optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'))
default_hooks = dict(pruning=dict(type='mmsharp.AdaSAPHook'))
