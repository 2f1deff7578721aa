"""Normalisation over channels, slim: what the whole layer computes where the channels that are gone are zero."""

import warnings
from importlib import import_module

import pytest
import torch
from torch import nn

from mmsharp.pruning import AxisRecipe, LayerRecipe, Recipe, apply_recipe
from mmsharp.pruning.layers import layer_kind

from ..conftest import vary_constants_

KEPT = (0, 2, 3, 7, 11)
FIRST, LAST = torch.randn(2, 12, 3, 4), torch.randn(2, 5, 12) + 1


def mmpretrain_norm(name, module='utils.norm', **settings):
    pytest.importorskip('mmpretrain')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # mmpretrain imports what mmcv has moved
        return getattr(import_module(f'mmpretrain.models.{module}'), name)(12, **settings)


def hornet_norm(data_format):
    return mmpretrain_norm('HorNetLayerNorm', 'backbones.hornet', data_format=data_format)


# the layer, its input, the dimension of channels, further arguments
NORMS = {
    'LayerNorm': (lambda: nn.LayerNorm(12), LAST, 2, {}),
    'LayerNorm without bias': (lambda: nn.LayerNorm(12, bias=False), LAST, 2, {}),
    'GroupNorm with one group': (lambda: nn.GroupNorm(1, 12), FIRST, 1, {}),
    'LayerNorm2d': (lambda: mmpretrain_norm('LayerNorm2d'), FIRST, 1, {}),
    'LayerNorm2d, channels last': (
        lambda: mmpretrain_norm('LayerNorm2d'),
        FIRST.permute(0, 2, 3, 1),
        3,
        {'data_format': 'channel_last'},
    ),
    'HorNetLayerNorm': (lambda: hornet_norm('channels_first'), FIRST, 1, {}),
    'HorNetLayerNorm, channels last': (lambda: hornet_norm('channels_last'), LAST, 2, {}),
    'GRN': (lambda: mmpretrain_norm('GRN'), FIRST, 1, {}),
    'GRN, channels last': (
        lambda: mmpretrain_norm('GRN'),
        FIRST.permute(0, 2, 3, 1),
        3,
        {'data_format': 'channel_last'},
    ),
}


@pytest.mark.parametrize('name', NORMS)
def test_slim_counts_what_is_gone(name):
    """A slim layer gives for the kept channels what the masked one gives, in value and gradient."""
    make, x, dim, arguments = NORMS[name]
    norm = vary_constants_(make())
    masked = x.movedim(dim, -1).clone()
    masked[..., [channel for channel in range(12) if channel not in KEPT]] = 0
    masked = masked.movedim(-1, dim).contiguous().requires_grad_()
    kept = torch.tensor(KEPT)
    expected = norm(masked, **arguments).index_select(dim, kept)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (expected * weights).sum().backward()
    expected_gradient = masked.grad.index_select(dim, kept)

    apply_recipe(norm, Recipe({'': LayerRecipe(layer_kind(norm).name, {'out': AxisRecipe(12, KEPT)})}))
    inputs = masked.detach().index_select(dim, kept).requires_grad_()
    result = norm(inputs, **arguments)
    (result * weights).sum().backward()
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(inputs.grad, expected_gradient, rtol=1e-4, atol=1e-6)


def test_group_normalisation_loses_whole_groups():
    """Groups know nothing of each other, so the class itself is its slim form."""
    norm = vary_constants_(nn.GroupNorm(4, 12))
    kept = torch.tensor([0, 1, 2, 9, 10, 11])
    expected = norm(FIRST)[:, kept]
    axes = {'out': AxisRecipe(12, tuple(kept.tolist())), 'groups': AxisRecipe(4, (0, 3))}
    apply_recipe(norm, Recipe({'': LayerRecipe('GroupNorm', axes)}))
    torch.testing.assert_close(norm(FIRST[:, kept]), expected)
    assert str(norm) == 'GroupNorm(2, 6, eps=1e-05, affine=True)'
    assert 'forward' not in vars(norm)


def test_half_precision_is_normalised_in_full():
    """Statistics of a slim layer are taken in float32, and the result has the type of the input."""
    norm = nn.LayerNorm(12)
    apply_recipe(norm, Recipe({'': LayerRecipe('LayerNorm', {'out': AxisRecipe(12, KEPT)})}))
    x = (LAST[..., :5] * 300).half()
    result = norm.half()(x)
    assert result.dtype == torch.float16
    torch.testing.assert_close(result.float(), norm.float()(x.float()), rtol=2e-3, atol=2e-3)
