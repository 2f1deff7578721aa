"""Convolutions that standardise their weights, and their slim form, which counts the weights that are gone as zeros.

``w_o`` becomes ``(w_o - m_o) / s_o`` with the mean ``m_o`` and the deviation ``s_o`` over all inputs of the filter. A
masked filter has zeros for dead inputs and takes its statistics over all ``N`` weights; with ``N' < N`` weights left,
of sum ``S`` and of sum of squares around ``m = S / N`` equal to ``Q``,

    ``m_o = m``    and    ``s_o^2 = (Q + (N - N') m^2) / (N - 1)``,

so a slim layer that computes these is exact. What a dead input is multiplied by is ``-m_o / s_o`` and not zero, so
such a layer loses inputs only where they are certain to be zero themselves (``zeros.py``).

Qiao et al. (2019), "Micro-Batch Training with Batch-Channel Normalization and Weight Standardization", arXiv
1903.10520; with a scale and a mean of its own in DetectoRS, Qiao et al. (2020), arXiv 2006.02334.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from mmsharp.pruning.layers.kinds import Axis, LayerKind, defines_forward


def standardised_convolution(conv: Any, dense: int, x: Tensor) -> Tensor:
    """``ConvWS2d`` of mmcv, which once had ``dense`` inputs."""
    mean, variance = _moments(conv.weight, dense)
    weight = (conv.weight - mean) / (variance.sqrt() + conv.eps)
    return functional.conv2d(x, weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def rescaled_convolution(conv: Any, dense: int, x: Tensor) -> Tensor:
    """``ConvAWS2d`` and ``SAConv2d`` of mmcv, which once had ``dense`` inputs."""
    conv._get_weight = partial(_rescaled, conv, dense)  # hides the method of this name
    try:
        return type(conv).forward(conv, x)
    finally:
        del conv._get_weight


def _rescaled(conv: Any, dense: int, weight: Tensor) -> Tensor:
    mean, variance = _moments(weight, dense)
    return conv.weight_gamma * ((weight - mean) / (variance + 1e-5).sqrt()) + conv.weight_beta


def _moments(weight: Tensor, dense: int) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of each filter, as if it had ``dense`` inputs, those that it lacks being zero.

    Example:
        >>> import torch
        >>> whole = torch.tensor([[[[1.0]], [[3.0]], [[0.0]]]])
        >>> mean, variance = _moments(whole[:, :2], 3)
        >>> torch.allclose(mean, whole.mean()), torch.allclose(variance, whole.var())
        (True, True)
    """
    flat = weight.flatten(1)
    count = dense * weight[0, 0].numel()
    mean = flat.sum(dim=1, keepdim=True) / count
    squares = (flat - mean).square().sum(dim=1, keepdim=True) + (count - flat.shape[1]) * mean.square()
    shape = [-1] + [1] * (weight.dim() - 1)
    return mean.view(shape), (squares / (count - 1)).view(shape)


def _in_one_group(*paths: str) -> Callable[[nn.Module], bool]:
    matches = defines_forward(*paths)
    return lambda module: matches(module) and getattr(module, 'groups', None) == 1


_OUT = Axis({'weight': 0, 'bias': 0}, ('out_channels',))
_IN = Axis({'weight': 1}, ('in_channels',))
_RESCALED = Axis({'weight': 0, 'bias': 0, 'weight_gamma': 0, 'weight_beta': 0}, ('out_channels',))

STANDARDISED_KINDS: tuple[LayerKind, ...] = (
    LayerKind(
        'StandardisedConv',
        _in_one_group('mmcv.cnn.bricks.conv_ws.ConvWS2d'),
        {'out': _OUT, 'in': _IN},
        standardised_convolution,
        dense_axis='in',
    ),
    LayerKind(
        'RescaledConv',
        _in_one_group('mmcv.cnn.bricks.conv_ws.ConvAWS2d', 'mmcv.ops.saconv.SAConv2d'),
        {'out': _RESCALED, 'in': _IN},
        rescaled_convolution,
        dense_axis='in',
    ),
)
