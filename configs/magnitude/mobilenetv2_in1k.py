# The baseline of configs/adasap/mobilenetv2_in1k.py: the same pruning, phases and epochs with plain SGD.
_base_ = '../dense/mobilenetv2_in1k.py'
load_from = 'work_dirs/dense/mobilenetv2_in1k/epoch_90.pth'

default_hooks = dict(pruning={{_base_.in1k_pruning}})
