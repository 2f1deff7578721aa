# ResNet-56 of He et al. on CIFAR-10, from scratch. Its published weights are converted by
# tools/model_converters/cifar_resnet.py.
_base_ = './resnet20_cifar10.py'

model = dict(backbone=dict(depth=56))
