# C-SAM, our reading, to half of the weights of every layer of configs/dense/googlenet_celebahq.py.
_base_ = ['../dense/googlenet_celebahq.py', '../_base_/csam_parts.py']
load_from = 'work_dirs/dense/googlenet_celebahq/epoch_20.pth'

model = dict(type='mmsharp.MaskSearch', base='ImageClassifier', search={{_base_.csam_search}})
train_cfg = {{_base_.celebahq_pruning.train_cfg}}
optim_wrapper = dict(optimizer=dict(lr={{_base_.celebahq_pruning.lr}}), paramwise_cfg={{_base_.csam_paramwise}})
param_scheduler = {{_base_.celebahq_pruning.param_scheduler}}
default_hooks = dict(pruning=dict(type='mmsharp.MaskSearchHook', search={{_base_.celebahq_pruning.search}}))
