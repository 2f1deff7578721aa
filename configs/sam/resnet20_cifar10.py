# The dense network of configs/dense/resnet20_cifar10.py trained on with SAM, for SAM, then prune.
_base_ = '../dense/resnet20_cifar10.py'
load_from = 'data/resnet20_cifar10.pth'

train_cfg = {{_base_.cifar10_pruning.train_cfg}}
optim_wrapper = dict(
    type='mmsharp.SAMOptimWrapper', ascent=dict(type='SAM'), optimizer=dict(lr={{_base_.cifar10_pruning.lr}})
)
param_scheduler = {{_base_.cifar10_pruning.param_scheduler}}
