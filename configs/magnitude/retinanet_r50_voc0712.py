# The baseline of configs/adasap/retinanet_r50_voc0712.py: the same pruning, phases and epochs with plain SGD.
_base_ = '../dense/retinanet_r50_voc0712.py'
load_from = 'work_dirs/dense/retinanet_r50_voc0712/epoch_4.pth'

default_hooks = dict(pruning={{_base_.voc_pruning}})
