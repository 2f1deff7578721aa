# ResNet-18 for CIFAR as mmpretrain ships it, on the handwritten digits: only data, schedule and initialisation differ.
#     python tools/dataset_converters/digits_folder.py data/digits_folder
_base_ = 'mmpretrain::resnet/resnet18_8xb16_cifar10.py'

max_epochs = 4

# The stock initialisation starts with every residual branch at zero, which a training of minutes does not get out of:
# torch's own reaches 96 % on the val split in two epochs.
model = dict(backbone=dict(init_cfg=None, zero_init_residual=False))

data_preprocessor = dict(to_rgb=True)  # PNG files are loaded as BGR
# No flips: a mirrored two is no two.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=2),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(_delete_=True, type='CustomDataset', data_root='data/digits_folder/train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=1,
    dataset=dict(_delete_=True, type='CustomDataset', data_root='data/digits_folder/val', pipeline=test_pipeline),
)
test_dataloader = dict(
    batch_size=50,
    num_workers=1,
    dataset=dict(_delete_=True, type='CustomDataset', data_root='data/digits_folder/test', pipeline=test_pipeline),
)

train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = dict(
    _delete_=True, type='CosineAnnealingLR', T_max=max_epochs, eta_min=0.0001, convert_to_iter_based=True
)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1, max_keep_ckpts=2))
auto_scale_lr = dict(base_batch_size=16)
randomness = dict(seed=0)
