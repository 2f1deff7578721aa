# The baseline of configs/adasap/resnet56_cifar10.py: the same pruning, phases and epochs with plain SGD.
# It starts from published weights, converted by
#     python tools/model_converters/cifar_resnet.py resnet56-4bfd9763.th data/resnet56_cifar10.pth
_base_ = '../dense/resnet56_cifar10.py'
load_from = 'data/resnet56_cifar10.pth'

train_cfg = {{_base_.cifar10_pruning.train_cfg}}
optim_wrapper = dict(optimizer=dict(lr={{_base_.cifar10_pruning.lr}}))
param_scheduler = {{_base_.cifar10_pruning.param_scheduler}}
default_hooks = dict(pruning={{_base_.cifar10_pruning.hook}})
