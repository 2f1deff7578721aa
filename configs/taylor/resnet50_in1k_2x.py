# Taylor scores and plain SGD with twice the steps.
_base_ = '../magnitude/resnet50_in1k_2x.py'

default_hooks = dict(pruning=dict(pruner=dict(criterion=dict(type='mmsharp.Taylor'))))
