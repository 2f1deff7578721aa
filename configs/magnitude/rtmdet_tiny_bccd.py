# The baseline of configs/adasap/rtmdet_tiny_bccd.py: the same pruning, phases and epochs with the dense one's AdamW.
_base_ = '../dense/rtmdet_tiny_bccd.py'
load_from = 'work_dirs/dense/rtmdet_tiny_bccd/epoch_60.pth'

max_epochs = 30
base_lr = 0.001
custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        eta_min=base_lr * 0.05,
        begin=10,
        end=30,
        T_max=20,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    pruning=dict(
        type='mmsharp.PruningHook',
        budget=dict(params=0.4),
        # One threshold over the whole model leaves the head, whose filters are many times the same and hold few of the
        # parameters, hardly a channel; the classes are lost, and do not come back.
        pruner=dict(type='mmsharp.ChannelPruner', allocation=dict(type='mmsharp.Knapsack')),
        warmup=2,
        pruning=8,
        interval=10,
    )
)
