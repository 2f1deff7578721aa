# C-SAM, our reading, to half of the weights of every layer of configs/dense/resnet20_cifar10.py.
_base_ = ['../dense/resnet20_cifar10.py', '../_base_/csam_parts.py']
load_from = 'data/resnet20_cifar10.pth'

model = dict(type='mmsharp.MaskSearch', base='ImageClassifier', search={{_base_.csam_search}})
train_cfg = {{_base_.cifar10_pruning.train_cfg}}
optim_wrapper = dict(optimizer=dict(lr={{_base_.cifar10_pruning.lr}}), paramwise_cfg={{_base_.csam_paramwise}})
param_scheduler = {{_base_.cifar10_pruning.param_scheduler}}
default_hooks = dict(pruning=dict(type='mmsharp.MaskSearchHook', search=5))
