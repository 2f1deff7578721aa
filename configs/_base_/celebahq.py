# CelebA-HQ, 30,000 faces in CelebA's split, with one attribute as the class.
#     https://github.com/switchablenorms/CelebAMask-HQ and CelebA's list_eval_partition.txt: data/celeba_hq
#
# The recipe and the task are ours: which ones C-SAM has are not known.
_base_ = ['mmpretrain::_base_/default_runtime.py', 'robustness/imagenet_c.py']

custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)
data_preprocessor = dict(num_classes=2, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, crop_ratio_range=(0.8, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(224, 224)),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='mmsharp.CelebAHQ', data_root='data/celeba_hq', split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='mmsharp.CelebAHQ', data_root='data/celeba_hq', split='val', pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='mmsharp.CelebAHQ', data_root='data/celeba_hq', split='test', pipeline=test_pipeline),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = dict(type='Accuracy', topk=(1,))

train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=2)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=20, by_epoch=True, convert_to_iter_based=True)]
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=2))
auto_scale_lr = dict(base_batch_size=128)
randomness = dict(seed=0)

# For the heirs that prune: a search of 20 epochs and fine-tuning of 100, as HYDRA's scripts have it.
celebahq_pruning = dict(
    train_cfg=dict(max_epochs=120, val_interval=10),
    lr=0.01,
    param_scheduler=[dict(type='CosineAnnealingLR', T_max=120, by_epoch=True, convert_to_iter_based=True)],
    search=20,
)
