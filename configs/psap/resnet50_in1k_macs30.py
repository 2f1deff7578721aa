# PSAP, as we read it, on the network of configs/dense/resnet50_in1k.py: 70 % of the multiply-accumulates are removed.
_base_ = './resnet50_in1k_macs50.py'

default_hooks = dict(pruning=dict(budget=dict(macs=0.3)))
