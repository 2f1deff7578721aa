# The baseline of configs/adasap/rtmdet_tiny_voc0712.py: the same pruning, phases and epochs with the dense one's AdamW.
_base_ = '../dense/rtmdet_tiny_voc0712.py'
load_from = 'work_dirs/dense/rtmdet_tiny_voc0712/epoch_100.pth'

default_hooks = dict(pruning={{_base_.voc_pruning}})
