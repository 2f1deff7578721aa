"""Products whose weights a layer computes: the channels between them can go, with their share of that layer."""

import warnings

import pytest
import torch
from torch import nn

from mmsharp.pruning import tensor_forward

from ..conftest import assert_masked_equals_slim, masked_and_slim, vary_constants_


class Head(nn.Module):
    """Weights for each of two regions, their features, and a classifier."""

    def __init__(self, inputs, inner, outputs):
        super().__init__()
        utils = pytest.importorskip('mmdet.models.layers.transformer.utils')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            self.dynamic = utils.DynamicConv(inputs, inner, outputs, input_feat_shape=2)
        self.last = nn.Linear(outputs, 3)

    def forward(self, x):
        return self.last(self.dynamic(x[:, :, 0, 0], x))


@pytest.mark.parametrize(('inputs', 'inner', 'outputs'), [(6, 10, 6), (6, 10, 4), (8, 8, 8)])
def test_inner_channels_can_go(inputs, inner, outputs):
    """As many inner channels as inputs and outputs leave the shapes ambiguous, and the structure what it is."""
    torch.manual_seed(0)
    forward = tensor_forward(torch.randn(2, inputs, 2, 2, generator=torch.Generator().manual_seed(0)))
    model = vary_constants_(Head(inputs, inner, outputs)).double()
    groups, slim, result = masked_and_slim(model, forward)
    assert {group.name: group.channels for group in groups.groups} == {
        'dynamic.dynamic_layer': inner,
        'dynamic.fc_layer': outputs,
    }
    assert_masked_equals_slim(result, 1e-6)
    left = slim.dynamic.feat_channels
    assert left < inner
    assert slim.dynamic.dynamic_layer.out_features == left * (inputs + outputs)
    assert (slim.dynamic.num_params_in, slim.dynamic.num_params_out) == (left * inputs, left * outputs)
