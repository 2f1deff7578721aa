# L2 magnitude and plain SGD, to 0.20 of the parameters.
_base_ = './ssd512_r50_voc0712.py'

default_hooks = dict(pruning=dict(budget=dict(params=0.2)))
