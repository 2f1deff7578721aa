# L2 magnitude and plain SGD, to 0.77 of the parameters.
_base_ = './mobilenetv2_in1k.py'

default_hooks = dict(pruning=dict(budget=dict(params=0.77)))
