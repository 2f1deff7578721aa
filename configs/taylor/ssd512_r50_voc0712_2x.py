# Taylor scores and plain SGD with twice the steps.
_base_ = '../magnitude/ssd512_r50_voc0712_2x.py'

default_hooks = dict(pruning=dict(pruner=dict(criterion=dict(type='mmsharp.Taylor'))))
