# The baseline of configs/adasap/resnet18_cifar10.py: the same pruning, phases and epochs with plain SGD.
_base_ = '../dense/resnet18_cifar10.py'
load_from = 'work_dirs/dense/resnet18_cifar10/epoch_200.pth'

train_cfg = {{_base_.cifar10_pruning.train_cfg}}
optim_wrapper = dict(optimizer=dict(lr={{_base_.cifar10_pruning.lr}}))
param_scheduler = {{_base_.cifar10_pruning.param_scheduler}}
default_hooks = dict(pruning={{_base_.cifar10_pruning.hook}})
