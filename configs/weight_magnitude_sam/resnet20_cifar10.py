# Prune, then SAM: as configs/weight_magnitude/resnet20_cifar10.py, trained on with SAM.
_base_ = '../weight_magnitude/resnet20_cifar10.py'

optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='SAM'))
