# Taylor scores and plain SGD, to 0.40 of the parameters.
_base_ = '../magnitude/resnet50_in1k.py'

default_hooks = dict(pruning=dict(pruner=dict(criterion=dict(type='mmsharp.Taylor'))))
