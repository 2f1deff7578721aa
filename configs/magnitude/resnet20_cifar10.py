# The baseline of configs/adasap/resnet20_cifar10.py: the same pruning, phases and epochs with plain SGD.
# It starts from published weights (91.7 %), converted by
#     python tools/model_converters/cifar_resnet.py resnet20-12fca82f.th data/resnet20_cifar10.pth
_base_ = '../dense/resnet20_cifar10.py'
load_from = 'data/resnet20_cifar10.pth'

max_epochs = 16
train_cfg = dict(max_epochs=max_epochs, val_interval=4)
optim_wrapper = dict(optimizer=dict(lr=0.02))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=max_epochs, eta_min=0.0002, end=max_epochs, convert_to_iter_based=True)
]
default_hooks = dict(
    pruning=dict(type='mmsharp.PruningHook', budget=dict(params=0.4), warmup=2, pruning=5, interval=30)
)
