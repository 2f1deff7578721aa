# CIFAR-10: data, the training of a dense network, and how one is pruned; a network's config adds its model.
#     python tools/dataset_converters/cifar10_folder.py cifar-10-python.tar.gz data/cifar10
#
# 200 epochs of SGD, as the published weights of ResNet-20 and ResNet-56 were trained.
_base_ = [
    'mmpretrain::_base_/default_runtime.py',
    'robustness/cifar10_c.py',
]

custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)
data_preprocessor = dict(num_classes=10, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root='data/cifar10/train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='data/cifar10/val', pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=1,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='data/cifar10/test', pipeline=test_pipeline),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = dict(type='Accuracy', topk=(1,))

train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=10)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[100, 150], gamma=0.1)]
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=1, max_keep_ckpts=2))
auto_scale_lr = dict(base_batch_size=128)
randomness = dict(seed=0)

# For the configs that prune: fewer epochs at a lower rate, from a trained network.
cifar10_pruning = dict(
    train_cfg=dict(max_epochs=16, val_interval=4),
    lr=0.02,
    param_scheduler=[dict(type='CosineAnnealingLR', T_max=16, eta_min=0.0002, end=16, convert_to_iter_based=True)],
    hook=dict(type='mmsharp.PruningHook', budget=dict(params=0.4), warmup=2, pruning=5, interval=30),
)
