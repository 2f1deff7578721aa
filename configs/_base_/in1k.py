# ImageNet: data, the training of a dense network, and how one is pruned; a network's config adds its model.
#
# The training is the one of HALP's released code, which AdaSAP is said to share: SGD with a learning rate of 1.024 for
# 1024 images (8 GPUs, 128 each), momentum 0.875, 8 epochs of linear warm-up in 90 of a cosine, label smoothing of 0.1
# (in the model), no weight decay on normalisation. That AdaSAP itself smooths labels is not confirmed.
#
# AdaSAP's radii here are the package's defaults, shares of a channel's norm (0.005 to 0.05) and then ASAM with 0.5, and
# not the reported ones (absolute, 0.01 to 2.0, then ASAM with 2.0). These move a filter the further the fewer weights
# it has, a depth-wise one of MobileNet by more than its norm, and ruined a small network in a short run. No radius has
# been tried on ImageNet by us. The reported ones are those of configs/adasap/resnet50_in1k_paper.py.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py',
    'mmpretrain::_base_/default_runtime.py',
    'robustness/imagenet_c.py',
]

custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)
train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=128)
test_dataloader = dict(batch_size=128)

train_cfg = dict(by_epoch=True, max_epochs=90, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=1.024, momentum=0.875, weight_decay=3.0517578125e-05),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=8, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=82, begin=8, end=90, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))
auto_scale_lr = dict(base_batch_size=1024)
randomness = dict(seed=0)

# For the heirs that prune: 10 epochs of warm-up and a step every 30 iterations, as reported of AdaSAP; the first
# convolution stays whole, as in HALP. That pruning takes 27 epochs (0.3 of all) is our choice: it is not reported.
in1k_pruning = dict(
    type='mmsharp.PruningHook',
    budget=dict(params=0.4),
    warmup=10,
    pruning=27,
    interval=30,
    pruner=dict(type='mmsharp.ChannelPruner', ignore=['backbone.conv1']),
)
# The parts of HALP: the channels of the highest Taylor scores that a budget of latency can pay for.
in1k_halp = dict(
    criterion=dict(type='mmsharp.Taylor'),
    allocation=dict(type='mmsharp.Knapsack', normaliser='none'),
)
