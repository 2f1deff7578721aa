# AdaSAP with Taylor scores for what is pruned, to 0.40 of the parameters.
_base_ = '../taylor/resnet20_cifar10.py'

optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'))
default_hooks = dict(pruning=dict(type='mmsharp.AdaSAPHook'))
