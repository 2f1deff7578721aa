# The baseline of configs/adasap/resnet18_digits.py: the same pruning, phases and epochs with plain SGD.
_base_ = '../dense/resnet18_digits.py'
load_from = 'work_dirs/dense_digits/epoch_4.pth'

custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)
optim_wrapper = dict(optimizer=dict(lr=0.01))
default_hooks = dict(pruning=dict(type='mmsharp.PruningHook', budget=dict(params=0.4), interval=10))
