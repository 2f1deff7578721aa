# The transforms of C-SAM's margin ratio as augmentation, drawn as there, for the baselines, which see no transformed
# images otherwise.
cifar10_aug_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='mmsharp.RandomImageTransforms',
        transforms=[
            dict(type='Rotation', degrees=10.0),
            dict(type='Contrast', change=0.4),
            dict(type='Brightness', change=0.4),
        ],
    ),
    dict(type='PackInputs'),
]
