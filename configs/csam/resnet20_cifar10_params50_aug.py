# As configs/csam/resnet20_cifar10_params50.py, with rotation, brightness and contrast as augmentation.
_base_ = ['resnet20_cifar10_params50.py', '../_base_/cifar10_aug.py']

train_dataloader = dict(dataset=dict(pipeline={{_base_.cifar10_aug_pipeline}}))
