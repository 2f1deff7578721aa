# Flowers-102 with its official split: 1,020 training, 1,020 validation and 6,149 test images of 102 classes.
#     https://www.robots.ox.ac.uk/~vgg/data/flowers/102/ : data/flowers102/{jpg/,imagelabels.mat,setid.mat}
#
# The recipe is ours: which one C-SAM trains with is not known.
_base_ = ['mmpretrain::_base_/default_runtime.py', 'robustness/imagenet_c.py']

custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)
data_preprocessor = dict(num_classes=102, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224, crop_ratio_range=(0.5, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='Flowers102', data_root='data/flowers102', split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Flowers102', data_root='data/flowers102', split='val', pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='Flowers102', data_root='data/flowers102', split='test', pipeline=test_pipeline),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = dict(type='Accuracy', topk=(1,))

train_cfg = dict(by_epoch=True, max_epochs=200, val_interval=20)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=200, by_epoch=True, convert_to_iter_based=True)]
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=2))
auto_scale_lr = dict(base_batch_size=128)
randomness = dict(seed=0)

# For the heirs that prune: a search of 20 epochs and fine-tuning of 100, as HYDRA's scripts have it.
flowers102_pruning = dict(
    train_cfg=dict(max_epochs=120, val_interval=10),
    lr=0.01,
    param_scheduler=[dict(type='CosineAnnealingLR', T_max=120, by_epoch=True, convert_to_iter_based=True)],
    search=20,
)
