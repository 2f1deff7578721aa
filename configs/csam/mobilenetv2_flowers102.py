# C-SAM, our reading, to half of the weights of every layer of configs/dense/mobilenetv2_flowers102.py.
_base_ = ['../dense/mobilenetv2_flowers102.py', '../_base_/csam_parts.py']
load_from = 'work_dirs/dense/mobilenetv2_flowers102/epoch_200.pth'

model = dict(type='mmsharp.MaskSearch', base='ImageClassifier', search={{_base_.csam_search}})
train_cfg = {{_base_.flowers102_pruning.train_cfg}}
optim_wrapper = dict(optimizer=dict(lr={{_base_.flowers102_pruning.lr}}), paramwise_cfg={{_base_.csam_paramwise}})
param_scheduler = {{_base_.flowers102_pruning.param_scheduler}}
default_hooks = dict(pruning=dict(type='mmsharp.MaskSearchHook', search={{_base_.flowers102_pruning.search}}))
