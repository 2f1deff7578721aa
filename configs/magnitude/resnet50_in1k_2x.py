# L2 magnitude and plain SGD with twice the steps, every phase and the schedule with them: the compute of a second pass.
_base_ = './resnet50_in1k.py'

train_cfg = dict(max_epochs=180)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=16, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', T_max=164, begin=16, end=180, convert_to_iter_based=True),
]
default_hooks = dict(pruning=dict(warmup=20, pruning=54))
