# The baseline of configs/adasap/ssd512_r50_voc0712.py: the same pruning, phases and epochs with plain SGD.
# The first convolution stays whole, as in SMCP.
_base_ = '../dense/ssd512_r50_voc0712.py'
load_from = 'work_dirs/dense/ssd512_r50_voc0712/epoch_800.pth'

default_hooks = dict(
    pruning=dict(pruner=dict(type='mmsharp.ChannelPruner', ignore=['backbone.conv1']), **_base_.voc_pruning)
)
