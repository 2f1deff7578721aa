"""Convolutions that standardise their weights, slim: the masked layer where dead inputs are zero, whole elsewhere."""

import copy
from importlib import import_module

import pytest
import torch
from torch import nn

from mmsharp.pruning import find_groups, tensor_forward

from ..conftest import assert_masked_equals_slim, masked_and_slim, randomise_, vary_constants_

LAYERS = {
    'ConvWS2d': ('mmcv.cnn.bricks.conv_ws', {}),
    'ConvAWS2d': ('mmcv.cnn.bricks.conv_ws', {}),
    'SAConv2d, deformable': ('mmcv.ops.saconv', dict(use_deform=True)),
}


def small_net(name, between):
    """Two such layers with batch normalisation, something between them, and a classifier."""
    pytest.importorskip('mmcv.ops' if 'SAConv' in name else 'mmcv')
    torch.manual_seed(0)
    module, settings = LAYERS[name]
    layer = getattr(import_module(module), name.partition(',')[0])
    convolutions = [layer(3, 12, 3, padding=1, **settings), layer(12, 10, 3, padding=1, **settings)]
    model = nn.Sequential(convolutions[0], nn.BatchNorm2d(12), between, convolutions[1], nn.BatchNorm2d(10), nn.ReLU())
    for convolution in convolutions:
        for part in ('weight_gamma', 'weight_beta'):
            if hasattr(convolution, part):
                getattr(convolution, part).normal_(0.5, 0.2)
        if settings:
            nn.init.constant_(convolution.offset_s.bias, 0.3)
    model.append(nn.Conv2d(10, 2, 1))
    return randomise_(vary_constants_(model)).double()


FORWARD = tensor_forward(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize('name', LAYERS)
def test_masked_equals_slim(name):
    """Outputs and inputs of such layers can go where the inputs are certain to be zero."""
    groups, slim, outputs = masked_and_slim(small_net(name, nn.ReLU()), FORWARD)
    assert {group.name: group.channels for group in groups.groups if group.name in '03'} == {'0': 12, '3': 10}
    assert slim[3].in_channels < 12
    assert_masked_equals_slim(outputs, 1e-12)


@pytest.mark.parametrize('name', ['ConvWS2d', 'ConvAWS2d'])
def test_inputs_that_are_not_zero_stay(name):
    """A sigmoid of a dead channel is a half, which standardised weights do not hide."""
    groups = find_groups(small_net(name, nn.Sigmoid()), FORWARD)
    assert [group.name for group in groups.groups] == ['3']
    assert groups.dense[0].reason == '`3`: `convolution` sums over channels without a stored weight'


@pytest.mark.parametrize('name', LAYERS)
def test_slim_layers_are_trained_and_copied(name):
    """The slim forward goes along with a copy, and gradients reach the copy's own weights."""
    _, slim, _ = masked_and_slim(small_net(name, nn.ReLU()), FORWARD)
    other = copy.deepcopy(slim)
    with torch.no_grad():
        other[3].weight.mul_(torch.rand_like(other[3].weight))
    assert not torch.equal(FORWARD(slim), FORWARD(other))
    FORWARD(other).sum().backward()
    assert other[3].weight.grad.abs().sum() > 0
    assert slim[3].weight.grad is None
