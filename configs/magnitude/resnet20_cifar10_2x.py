# L2 magnitude and plain SGD with twice the steps, every phase and the schedule with them: the compute of a second pass.
_base_ = './resnet20_cifar10.py'

train_cfg = dict(max_epochs=32)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=32, eta_min=0.0002, end=32, convert_to_iter_based=True)]
default_hooks = dict(pruning=dict(warmup=4, pruning=10))
