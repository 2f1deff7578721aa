# Taylor scores and plain SGD, to 0.40 of the parameters.
_base_ = '../magnitude/ssd512_r50_voc0712.py'

default_hooks = dict(pruning=dict(pruner=dict(criterion=dict(type='mmsharp.Taylor'))))
