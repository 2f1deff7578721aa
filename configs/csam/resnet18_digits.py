# C-SAM, our reading, to half of the weights of every layer of configs/dense/resnet18_digits.py.
_base_ = ['../dense/resnet18_digits.py', '../_base_/csam.py']
load_from = 'work_dirs/dense_digits/epoch_4.pth'

model = dict(type='mmsharp.MaskSearch', base='ImageClassifier', search={{_base_.csam_search}})
optim_wrapper = dict(optimizer=dict(lr=0.01), paramwise_cfg={{_base_.csam_paramwise}})
default_hooks = dict(pruning=dict(type='mmsharp.MaskSearchHook', search=2))
