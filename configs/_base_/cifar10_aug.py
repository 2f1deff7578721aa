# The transforms of C-SAM's margin ratio as augmentation, for the baselines that see no transformed images otherwise.
cifar10_aug_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='Rotate', magnitude_range=(0, 10), magnitude_std='inf', random_negative_prob=0.5, pad_val=0, prob=1.0),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4),
    dict(type='PackInputs'),
]
