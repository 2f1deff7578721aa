# L2 magnitude and plain SGD with twice the steps, the schedule and the phases, which are shares, with them: the compute
# of a second pass.
_base_ = './ssd512_r50_voc0712.py'

train_cfg = dict(max_epochs=1600)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=100, convert_to_iter_based=True),
    dict(type='MultiStepLR', milestones=[1200], gamma=3 / 8),
    dict(type='MultiStepLR', milestones=[1400], gamma=1 / 3),
    dict(type='MultiStepLR', milestones=[1480], gamma=2 / 5),
    dict(type='MultiStepLR', milestones=[1540], gamma=1 / 10),
]
