# L2 magnitude, SAM in every phase, to 0.40 of the parameters.
_base_ = '../magnitude/resnet20_cifar10.py'

optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='SAM'))
