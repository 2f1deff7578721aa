# As configs/sam_weight_magnitude/resnet20_cifar10.py, with rotation, brightness and contrast as augmentation.
_base_ = ['resnet20_cifar10.py', '../_base_/cifar10_aug.py']
load_from = 'work_dirs/sam/resnet20_cifar10_aug/epoch_16.pth'

train_dataloader = dict(dataset=dict(pipeline={{_base_.cifar10_aug_pipeline}}))
