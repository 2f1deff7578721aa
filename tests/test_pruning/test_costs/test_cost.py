import copy

import pytest
import torch
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import CostModel, apply_recipe, count_macs, count_parameters, find_groups, tensor_forward

from ..conftest import random_masks


class Upsampler(nn.Module):
    """Transposed and one-dimensional convolutions, a layer used twice, a matrix product without weights."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2)
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2)
        self.twice = nn.Conv2d(6, 6, 1)
        self.line = nn.Conv1d(6, 4, 1)

    def forward(self, x):
        x = self.twice(self.twice(self.up(self.first(x)))).flatten(2)
        return self.line(x) @ torch.ones(x.shape[2], 5)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('kind', ['residual', 'upsampler'])
def test_cost_is_that_of_the_slim_model(kind, seed, residual):
    """Parameters and multiply-accumulates for random masks equal those counted on the model really slimmed."""
    model = residual if kind == 'residual' else Upsampler()
    forward = tensor_forward(torch.zeros(2, 3, 8, 8))
    groups = find_groups(model, forward)
    cost = CostModel(model, forward, groups)
    masks = random_masks(groups, seed)
    slim = copy.deepcopy(model)
    apply_recipe(slim, masks.recipe(model))
    assert cost.measure('params', masks.keep) == count_parameters(slim) < count_parameters(model)
    assert cost.measure('macs', masks.keep) == count_macs(slim, forward) < count_macs(model, forward)
    assert cost.fraction('channels', masks.keep) == sum(int(m.sum()) for m in masks.keep) / cost.dense['channels']


@pytest.mark.parametrize('config', ['resnet/resnet18_8xb32_in1k.py', 'mobilenet_v2/mobilenet-v2_8xb32_in1k.py'])
def test_cost_of_packaged_models(config, build_packaged):
    """The same on models of a toolbox."""
    model = build_packaged('mmpretrain', config)
    forward = tensor_forward(torch.zeros(1, 3, 64, 64))
    groups = find_groups(model, forward)
    masks = random_masks(groups)
    slim = copy.deepcopy(model)
    apply_recipe(slim, masks.recipe(model))
    cost = CostModel(model, forward, groups)
    assert cost.measure('params', masks.keep) == count_parameters(slim)
    assert cost.measure('macs', masks.keep) == count_macs(slim, forward)


def test_unknown_resource_is_refused(residual):
    """With the accepted names."""
    forward = tensor_forward(torch.zeros(2, 3, 8, 8))
    with pytest.raises(MmsharpError, match="'watts' is unknown; accepted: params, macs, channels"):
        CostModel(residual, forward, find_groups(residual, forward)).fraction('watts', [])


@pytest.mark.parametrize('weights', [False, True])
def test_cost_of_fused_attention(weights):
    """Multiply-accumulates of attention are those of the slim model, whichever kernel would run."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.block, self.last = nn.MultiheadAttention(32, 4, batch_first=True), nn.Linear(32, 32)

        def forward(self, x):
            return self.last(self.block(x, x, x, need_weights=weights)[0])

    model, forward = Attention(), tensor_forward(torch.zeros(1, 16, 32))
    groups = find_groups(model, forward)
    masks = random_masks(groups)
    cost = CostModel(model, forward, groups).measure('macs', masks.keep)
    apply_recipe(model, masks.recipe(model))
    assert cost == count_macs(model, forward)
