# As configs/csam/resnet20_cifar10.py over channels, to half of the parameters: the network that it ends in is small.
_base_ = 'resnet20_cifar10.py'

model = dict(
    search=dict(granularity='channel', ratio=None, budget=dict(params=0.5), input_shape=(3, 32, 32), round_to=8)
)
