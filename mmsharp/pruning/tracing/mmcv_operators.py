"""Rules of mmcv's compiled operators: autograd functions, told by name, so that mmcv need not be installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mmsharp.pruning.tracing.calls import FIXED, tie_all

if TYPE_CHECKING:
    from mmsharp.pruning.tracing import ChannelTrace

Arguments = Mapping[str, Any]
"""What the function's forward was given, by name."""

CustomRule = Callable[['ChannelTrace', Arguments, Any], None]


def _pin_others(trace: ChannelTrace, arguments: Arguments, *followed: str) -> None:
    """Pin what the other arguments hold: places, offsets, weights of a sum over places."""
    others = [value for name, value in arguments.items() if isinstance(value, Tensor) and name not in followed]
    trace.pin_tensors(others, 'channels are read as places')


def _pooling(name: str) -> CustomRule:
    """``out[r, c] = a weighted sum over places of x[image of r, c]``: each channel by itself."""

    def rule(trace: ChannelTrace, arguments: Arguments, result: Any) -> None:
        axes = trace.axes(arguments[name])
        for labels in (axes[0], *axes[2:]):
            trace.labels.pin(labels, trace.because('channels lie along the image'))
        _pin_others(trace, arguments, name)
        trace.set_axes(result, [None, axes[1], *[None] * (result.dim() - 2)])

    return rule


def _deformable_convolution(trace: ChannelTrace, arguments: Arguments, result: Any) -> None:
    """``out_o = sum_i w_oi * x_i(places) + b_o``, every input channel read at the same places.

    With several deformable groups the places depend on the number of the input channel, which therefore stays.
    """
    x, weight, bias = arguments['input'], arguments['weight'], arguments.get('bias')
    _pin_others(trace, arguments, 'input', 'weight', 'bias')
    x_axes, w_axes = trace.axes(x), trace.axes(weight)
    for labels in (x_axes[0], *x_axes[2:]):
        trace.labels.pin(labels, trace.because('channels lie along the image'))
    if arguments.get('groups', 1) != 1:
        trace.pin_tensors([x, weight], 'deformable convolution in groups')
        return
    if not trace.is_weight(weight) and 1 not in trace.zeros(x):
        trace.pin_tensors([x], 'deformable convolution sums over channels without a stored weight')
    if arguments.get('deform_groups', 1) != 1:
        trace.pin_tensors([x], 'deformable convolution in deformable groups')
    trace.labels.tie(x_axes[1], w_axes[1], trace.because(f'deformable convolution {FIXED}'))
    out = w_axes[0]
    if isinstance(bias, Tensor) and bias.dim() == 1 and len(bias) > 1:
        out = tie_all(trace, [out, trace.axes(bias)[0]], f'bias {FIXED}')
    trace.set_axes(result, [None, out, None, None])
    made_zero = all(0 in trace.zeros(tensor) for tensor in (weight, bias) if isinstance(tensor, Tensor))
    trace.set_zeros([result], {1} if made_zero else set(), in_place=False)


def _deformable_attention(trace: ChannelTrace, arguments: Arguments, result: Any) -> None:
    """``out[q, h * D + d] = sum over levels and points of weight * value[place, h, d]``: each ``(h, d)`` by itself.

    The shape of ``value`` is (batch, places, heads, D), that of the result (batch, queries, heads * D). All heads are
    of the same width, so the labels that ``value`` has along ``D`` come once per head.
    """
    value = arguments['value']
    axes = trace.axes(value)
    _pin_others(trace, arguments, 'value')
    for labels in axes[:3]:
        trace.labels.pin(labels, trace.because('channels lie along the image, or are heads'))
    width = None if axes[3] is None else np.tile(axes[3], value.shape[2])
    trace.set_axes(result, [None, None, width])


def _reassembly(trace: ChannelTrace, arguments: Arguments, result: Any) -> None:
    """CARAFE: every channel of a group is a sum over places with the same weights; which group follows from its number.

    With one group, that of every packaged config, channels are kept apart.
    """
    if arguments.get('group_size', 1) != 1:
        trace.pin_tensors([arguments['features'], result], 'reassembly in groups')
    _pooling('features')(trace, arguments, result)


CUSTOM_RULES: dict[str, CustomRule] = {
    'RoIAlignFunction': _pooling('input'),
    'RoIPoolFunction': _pooling('input'),
    'DeformRoIPoolFunction': _pooling('input'),
    'PrRoIPoolFunction': _pooling('features'),
    'CARAFEFunction': _reassembly,
    'DeformConv2dFunction': _deformable_convolution,
    'ModulatedDeformConv2dFunction': _deformable_convolution,
    'MultiScaleDeformableAttnFunction': _deformable_attention,
}
