# L2 magnitude and the dense one's AdamW with twice the steps, every phase and the schedule with them, but for the first
# 50 iterations of the rate's warm-up: the compute of a second pass.
_base_ = './rtmdet_tiny_bccd.py'

max_epochs = 60
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        eta_min=_base_.base_lr * 0.05,
        begin=20,
        end=60,
        T_max=40,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(pruning=dict(warmup=4, pruning=16))
