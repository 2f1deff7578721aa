"""Normalisation over channels, and its slim form, which counts the channels that are gone as the zeros they were.

A masked LayerNorm sees its dead channels as zeros and divides by all ``C``. With ``r = C'/C`` and the mean ``m'`` and
variance ``v'`` over the ``C'`` channels that are left, the statistics over all are

    ``m = r m'``    and    ``v = r v' + r (1 - r) m'^2``,

so a slim layer that computes these is exact. A GroupNorm loses whole groups, which are independent of each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmsharp.pruning.layers.kinds import Axis, LayerKind, defines_forward


def layer_norm(norm: Any, dense: int, x: Tensor) -> Tensor:
    """``nn.LayerNorm`` over the last dimension, which once had ``dense`` channels.

    Example:
        >>> x = torch.tensor([[1.0, 3.0, 0.0, 0.0]])
        >>> norm = nn.LayerNorm(4)
        >>> torch.allclose(layer_norm(norm, 4, x), norm(x), atol=1e-6)
        True
        >>> slim = nn.LayerNorm(2)
        >>> torch.allclose(layer_norm(slim, 4, x[:, :2]), norm(x)[:, :2], atol=1e-6)
        True
    """
    return _normalised(norm, x, [-1], norm.normalized_shape[0] / dense, norm.weight, norm.bias)


def layer_norm_2d(norm: Any, dense: int, x: Tensor, data_format: str = 'channel_first') -> Tensor:
    """``LayerNorm2d`` of mmpretrain, over channels that come first or last."""
    if data_format == 'channel_last':
        return layer_norm(norm, dense, x)
    return layer_norm(norm, dense, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()


def hornet_norm(norm: Any, dense: int, x: Tensor) -> Tensor:
    """``HorNetLayerNorm``, over channels that come first or last, as it was built."""
    return layer_norm_2d(norm, dense, x, 'channel_last' if norm.data_format == 'channels_last' else 'channel_first')


def single_group_norm(norm: Any, dense: int, x: Tensor) -> Tensor:
    """``nn.GroupNorm`` with one group: over all channels and places, dimension 1 of which once was ``dense`` long."""
    shape = [1, -1] + [1] * (x.dim() - 2)
    share = norm.num_channels / dense
    return _normalised(norm, x, range(1, x.dim()), share, norm.weight.view(shape), norm.bias.view(shape))


def global_response_norm(norm: Any, dense: int, x: Tensor, data_format: str = 'channel_first') -> Tensor:
    """``GRN`` of ConvNeXt V2: each channel by its norm over the image, in relation to the mean of these norms."""
    image, channels, shape = ((1, 2), -1, [-1]) if data_format == 'channel_last' else ((2, 3), 1, [1, -1, 1, 1])
    norms = torch.linalg.vector_norm(x, dim=image, keepdim=True)
    relative = norms / (norms.sum(dim=channels, keepdim=True) / dense + norm.eps)
    return norm.gamma.view(shape) * (x * relative) + norm.beta.view(shape) + x


def _normalised(norm: Any, x: Tensor, dims: Sequence[int], share: float, weight: Tensor, bias: Tensor | None) -> Tensor:
    variance, mean = torch.var_mean(x.float(), dim=list(dims), correction=0, keepdim=True)
    variance = share * variance + share * (1 - share) * mean.square()
    normalised = ((x - share * mean) * torch.rsqrt(variance + norm.eps)).to(x.dtype) * weight
    return normalised if bias is None else normalised + bias


def _is_affine(module: Any) -> bool:
    return module.weight is not None and len(module.normalized_shape) == 1


_IS_LAYER_NORM = defines_forward('torch.nn.modules.normalization.LayerNorm')
_IS_LAYER_NORM_2D = defines_forward('mmpretrain.models.utils.norm.LayerNorm2d')
_NORMALISED = {'out': Axis({'weight': 0, 'bias': 0}, ('normalized_shape',))}

NORM_KINDS: tuple[LayerKind, ...] = (
    LayerKind('LayerNorm', lambda m: _IS_LAYER_NORM(m) and _is_affine(m), _NORMALISED, layer_norm, dense_axis='out'),
    LayerKind(
        'LayerNorm2d', lambda m: _IS_LAYER_NORM_2D(m) and _is_affine(m), _NORMALISED, layer_norm_2d, dense_axis='out'
    ),
    LayerKind(
        'HorNetLayerNorm',
        defines_forward('mmpretrain.models.backbones.hornet.HorNetLayerNorm'),
        _NORMALISED,
        hornet_norm,
        dense_axis='out',
    ),
    LayerKind(
        'SingleGroupNorm',
        lambda m: isinstance(m, nn.GroupNorm) and m.num_groups == 1 and m.affine,
        {'out': Axis({'weight': 0, 'bias': 0}, ('num_channels',))},
        single_group_norm,
        dense_axis='out',
    ),
    LayerKind(
        'GroupNorm',
        lambda m: isinstance(m, nn.GroupNorm) and m.affine,
        {
            'out': Axis({'weight': 0, 'bias': 0}, ('num_channels',), runs_of='groups'),
            'groups': Axis({}, ('num_groups',)),
        },
    ),
    LayerKind(
        'GRN',
        defines_forward('mmpretrain.models.utils.norm.GRN'),
        {'out': Axis({'gamma': 0, 'beta': 0}, ('in_channels',))},
        global_response_norm,
        dense_axis='out',
    ),
)
