# AdaSAP on the dense network of configs/dense/resnet18_digits.py.
_base_ = '../dense/resnet18_digits.py'
load_from = 'work_dirs/dense_digits/epoch_4.pth'

custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)
optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'), optimizer=dict(lr=0.01))
default_hooks = dict(pruning=dict(type='mmsharp.AdaSAPHook', budget=dict(params=0.4), interval=10))
