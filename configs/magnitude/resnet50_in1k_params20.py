# L2 magnitude and plain SGD, to 0.20 of the parameters.
_base_ = './resnet50_in1k.py'

default_hooks = dict(pruning=dict(budget=dict(params=0.2)))
