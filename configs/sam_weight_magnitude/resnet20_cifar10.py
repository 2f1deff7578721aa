# SAM, then prune: as configs/weight_magnitude/resnet20_cifar10.py, from the network that SAM has trained.
_base_ = '../weight_magnitude/resnet20_cifar10.py'
load_from = 'work_dirs/sam/resnet20_cifar10/epoch_16.pth'
