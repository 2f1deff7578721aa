"""What each PyTorch operation does to labels: one function per family, one table from operation to family.

A rule may be missing (channels are then pinned), but it must never be wrong: it holds for any mask, whatever the
values are. So a sum or a statistic over channels pins them, except a product with a stored weight, whose input side
masks make zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from mmsharp.pruning.labels import Axes, Labels

if TYPE_CHECKING:
    from mmsharp.pruning.tracing import ChannelTrace

_FIXED = 'meets a tensor whose channels are fixed'
_WHOLE = 'reads all channels at once'


class Call(NamedTuple):
    """One operation that ran: its arguments by name, its tensors in and out."""

    name: str
    arguments: dict[str, Any]
    inputs: list[Tensor]
    outputs: list[Tensor]
    result: Any


Rule = Callable[['ChannelTrace', Call], None]


def apply_rule(trace: ChannelTrace, func: Any, args: Any, kwargs: Any, inputs: list[Tensor], result: Any) -> None:
    """Find the rule of an operation and apply it; without one, pin."""
    name = func._schema.name.removeprefix('aten::')
    names = [argument.name for argument in func._schema.arguments]
    arguments = {argument.name: argument.default_value for argument in func._schema.arguments}
    arguments.update(zip(names, args), **kwargs)
    outputs = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
    call = Call(name, arguments, inputs, outputs, result)
    rule = RULES.get(name) or RULES.get(name.rstrip('_'))
    if rule is None and torch.Tag.pointwise in func.tags:
        rule = pointwise
    if rule is None and re.fullmatch(_PER_CHANNEL, name):
        rule = per_channel
    (rule or unknown)(trace, call)


def unknown(trace: ChannelTrace, call: Call) -> None:
    """Pin everything that goes in."""
    trace.pin_tensors(call.inputs, f'operation `{call.name}` is not understood')


def nothing(trace: ChannelTrace, call: Call) -> None:
    """The result holds no values of the input."""


def pointwise(trace: ChannelTrace, call: Call) -> None:
    """Broadcast and tie; an axis of fixed size pins what it meets."""
    shape = torch.broadcast_shapes(*(tensor.shape for tensor in call.inputs))
    axes: Axes = []
    for offset in range(-len(shape), 0):
        size = shape[offset]
        sides = [
            trace.axes(tensor)[offset]
            for tensor in call.inputs
            if size > 1 and tensor.dim() >= -offset and tensor.shape[offset] == size
        ]
        axes.append(_tie_all(trace, sides, f'`{call.name}` {_FIXED}'))
    for output in call.outputs:
        if output.shape == shape:
            trace.set_axes(output, axes)
    if len(call.inputs) == 1 and call.name in _SAME_NUMBERS and trace.is_weight(call.inputs[0]):
        trace.set_weight(call.outputs[0])


def _tie_all(trace: ChannelTrace, sides: list[Labels | None], what: str) -> Labels | None:
    if all(side is None for side in sides):
        return None
    tied = sides[0]
    for side in sides[1:]:
        tied = trace.labels.tie(tied, side, trace.because(what))
    return tied


def convolution(trace: ChannelTrace, call: Call) -> None:
    """``out_o = sum_i w_oi * in_i + b_o``; depthwise ``out_c = w_c * in_c + b_c``; other groups are pinned."""
    x, weight, bias = (call.arguments[name] for name in ('input', 'weight', 'bias'))
    x_axes, w_axes = trace.axes(x), trace.axes(weight)
    groups, transposed = call.arguments['groups'], call.arguments['transposed']
    out, inward = (w_axes[1], w_axes[0]) if transposed else (w_axes[0], w_axes[1])
    if groups == 1:
        _contract(trace, x_axes[1], inward, trace.is_weight(weight), call.name)
    elif not transposed and weight.shape[1] == 1 and weight.shape[0] == groups:
        out = _tie_all(trace, [out, x_axes[1]], f'depthwise convolution {_FIXED}')
    else:
        trace.pin_tensors([x, weight], f'convolution in {groups} groups')
        out = None
    if bias is not None and bias.dim() == 1 and len(bias) > 1:
        out = _tie_all(trace, [out, trace.axes(bias)[0]], f'bias {_FIXED}')
    trace.set_axes(call.outputs[0], [x_axes[0], out] + [None] * (x.dim() - 2))
    for labels in (*x_axes[2:], *w_axes[2:]):
        trace.labels.pin(labels, trace.because('channels lie along the image'))


def _contract(trace: ChannelTrace, first: Labels | None, second: Labels | None, masked: bool, what: str) -> None:
    """A sum over an axis: fine where one factor is a stored weight, which masks make zero."""
    if masked:
        trace.labels.tie(first, second, trace.because(f'`{what}` {_FIXED}'))
    else:
        for labels in (first, second):
            trace.labels.pin(labels, trace.because(f'`{what}` sums over channels without a stored weight'))


def matrix_product(trace: ChannelTrace, call: Call) -> None:
    """``out[..., m, n] = sum_k a[..., m, k] b[..., k, n]`` (+ an addend)."""
    a, b = call.inputs[-2:]
    a_axes, b_axes = trace.axes(a), trace.axes(b)
    _contract(trace, a_axes[-1], b_axes[-2], trace.is_weight(a) or trace.is_weight(b), call.name)
    axes: Axes = [_tie_all(trace, [first, second], _FIXED) for first, second in zip(a_axes[:-2], b_axes[:-2])]
    axes += [a_axes[-2], b_axes[-1]]
    if len(call.inputs) == 3:
        addend = call.inputs[0]
        for offset, labels in enumerate(reversed(trace.axes(addend)), start=1):
            if addend.shape[-offset] > 1:
                axes[-offset] = _tie_all(trace, [axes[-offset], labels], f'addend {_FIXED}')
    trace.set_axes(call.outputs[0], axes)


def batch_norm(trace: ChannelTrace, call: Call) -> None:
    """Each channel by itself, along dimension 1."""
    x, *others = call.inputs
    axes = trace.axes(x)
    sides = [axes[1], *(trace.axes(tensor)[0] for tensor in others if tensor.dim() == 1)]
    if x.shape[1] > 1:
        axes[1] = _tie_all(trace, sides, f'batch normalisation {_FIXED}')
    trace.set_axes(call.outputs[0], axes)


def layer_norm(trace: ChannelTrace, call: Call) -> None:
    """Statistics over the last dimensions."""
    x = call.inputs[0]
    axes = trace.axes(x)
    for labels in axes[x.dim() - len(call.arguments['normalized_shape']) :]:
        trace.labels.pin(labels, trace.because('layer normalisation takes its statistics over channels'))
    trace.set_axes(call.outputs[0], axes)


def group_norm(trace: ChannelTrace, call: Call) -> None:
    """Statistics over groups of channels."""
    axes = trace.axes(call.inputs[0])
    trace.labels.pin(axes[1], trace.because('group normalisation takes its statistics over channels'))
    trace.set_axes(call.outputs[0], axes)


def softmax(trace: ChannelTrace, call: Call) -> None:
    """Normalised over one dimension."""
    axes = trace.axes(call.inputs[0])
    trace.labels.pin(axes[call.arguments['dim']], trace.because('softmax over channels'))
    trace.set_axes(call.outputs[0], axes)


def reduction(trace: ChannelTrace, call: Call) -> None:
    """A statistic over some dimensions."""
    x = call.inputs[0]
    axes = trace.axes(x)
    dims = call.arguments.get('dim')
    dims = [dims] if isinstance(dims, int) else list(dims or range(x.dim()))
    reduced = {dim % x.dim() for dim in dims}
    for dim in reduced:
        trace.labels.pin(axes[dim], trace.because(f'`{call.name}` {_WHOLE}'))
    keep = bool(call.arguments.get('keepdim'))
    left = [None if dim in reduced else labels for dim, labels in enumerate(axes) if keep or dim not in reduced]
    for output in call.outputs:
        trace.set_axes(output, left)


def per_channel(trace: ChannelTrace, call: Call) -> None:
    """Pooling, resizing and padding: each channel by itself, along the image."""
    matched = re.search(r'([123])d', call.name)
    assert matched is not None
    x, axes = call.inputs[0], trace.axes(call.inputs[0])
    lead = x.dim() - int(matched[1])
    for labels in axes[lead:]:
        trace.labels.pin(labels, trace.because('channels lie along the image'))
    for output in call.outputs:
        trace.set_axes(output, axes[:lead] + [None] * int(matched[1]))


def pad(trace: ChannelTrace, call: Call) -> None:
    """New places beside the old ones; padded channels are pinned."""
    x, axes = call.inputs[0], trace.axes(call.inputs[0])
    for place in range(len(call.arguments['pad']) // 2):
        if any(call.arguments['pad'][2 * place : 2 * place + 2]):
            trace.labels.pin(axes[x.dim() - 1 - place], trace.because('padded along channels'))
            axes[x.dim() - 1 - place] = None
    trace.set_axes(call.outputs[0], axes)


def reorder(trace: ChannelTrace, call: Call) -> None:
    """Transpose, permute, squeeze, unsqueeze, expand: dimensions move, appear or vanish, and keep their contents."""
    x = call.inputs[0]
    places = _dimension_places(call, x)
    axes = trace.axes(x)
    trace.set_axes(call.outputs[0], [None if place is None else axes[place] for place in places])
    if trace.is_weight(x):
        trace.set_weight(call.outputs[0])


def _dimension_places(call: Call, x: Tensor) -> list[int | None]:
    """For each dimension of the result, the one of ``x`` that it is."""
    places: list[int | None] = list(range(x.dim()))
    if call.name == 't':
        return places[::-1]
    if call.name == 'transpose':
        first, second = call.arguments['dim0'], call.arguments['dim1']
        places[first], places[second] = places[second], places[first]
    elif call.name == 'permute':
        places = [dim % x.dim() for dim in call.arguments['dims']]
    elif call.name == 'unsqueeze':
        places.insert(call.arguments['dim'] % (x.dim() + 1), None)
    elif call.name == 'squeeze':
        dims = call.arguments.get('dim', range(x.dim()))
        dims = [dims] if isinstance(dims, int) else dims
        gone = {dim % x.dim() for dim in dims if x.shape[dim] == 1} if x.dim() else set()
        places = [place for place in range(x.dim()) if place not in gone]
    elif call.name == 'expand':
        places[:0] = [None] * (len(call.arguments['size']) - x.dim())
    return places


def reshape(trace: ChannelTrace, call: Call) -> None:
    """Dimensions merge or split; labels are repeated along what they merge with, and have to come apart whole."""
    x, y = call.inputs[0], call.outputs[0]
    axes, result = trace.axes(x), [None] * y.dim()  # type: tuple[Axes, Axes]
    for before, after in _blocks(x.shape, y.shape):
        labelled = [dim for dim in before if axes[dim] is not None]
        spread = None
        if len(labelled) == 1:
            names = axes[labelled[0]]
            assert names is not None
            shape = [len(names) if dim == labelled[0] else 1 for dim in before]
            full = np.broadcast_to(names.reshape(shape), [x.shape[dim] for dim in before])
            spread = full.reshape([y.shape[dim] for dim in after])
        home = None if spread is None else _only_axis(spread)
        if home is not None and spread is not None:
            result[after[home]] = np.moveaxis(spread, home, 0).reshape(spread.shape[home], -1)[:, 0].copy()
        else:
            for dim in labelled:
                trace.labels.pin(axes[dim], trace.because('a reshape takes channels apart or merges two kinds of them'))
    trace.set_axes(y, result)
    if trace.is_weight(x):
        trace.set_weight(y)


def _blocks(before: torch.Size, after: torch.Size) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of dimensions that hold the same elements before and after a reshape."""
    blocks: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        left, right = [], []
        n_left = n_right = 1
        if i < len(before):
            left, n_left, i = [i], before[i], i + 1
        if j < len(after) and (not left or n_left != 1 or after[j] == 1):
            right, n_right, j = [j], after[j], j + 1
        while n_left != n_right:
            if n_left < n_right:
                left, n_left, i = [*left, i], n_left * before[i], i + 1
            else:
                right, n_right, j = [*right, j], n_right * after[j], j + 1
        blocks.append((left, right))
    return blocks


def _only_axis(spread: Labels) -> int | None:
    """The one axis along which the labels change, if there is exactly one."""
    changing = [
        axis
        for axis in range(spread.ndim)
        if spread.shape[axis] > 1 and (np.take(spread, [0], axis=axis) != spread).any()
    ]
    return changing[0] if len(changing) == 1 else None


def take(trace: ChannelTrace, call: Call) -> None:
    """Select, slice, split, unbind along one dimension: fine beside channels, not along them."""
    x, axes = call.inputs[0], trace.axes(call.inputs[0])
    dim = call.arguments['dim'] % x.dim()
    if call.name == 'slice' and call.outputs[0].shape == x.shape:
        trace.set_axes(call.outputs[0], axes)
        return
    trace.labels.pin(axes[dim], trace.because(f'`{call.name}` takes channels by their number'))
    dropped = call.name in ('select', 'unbind')
    left = [None if place == dim else labels for place, labels in enumerate(axes) if not (dropped and place == dim)]
    for output in call.outputs:
        trace.set_axes(output, left)


def concatenate(trace: ChannelTrace, call: Call) -> None:
    """Labels side by side along the dimension; all else is tied."""
    parts = [tensor for tensor in call.inputs if tensor.dim() > 1 or tensor.numel()]
    if call.name == 'stack':
        dim = call.arguments['dim'] % (parts[0].dim() + 1)
    else:
        dim = call.arguments['dim'] % parts[0].dim()
    along: list[Labels] = []
    others: list[Axes] = []
    for tensor in parts:
        axes = trace.axes(tensor)
        if call.name == 'stack':
            axes.insert(dim, None)
        else:
            labels = axes[dim]
            if labels is None:
                labels = trace.labels.fresh(tensor.shape[dim])
                trace.labels.pin(labels, trace.because(f'concatenation {_FIXED}'))
            along.append(labels)
        others.append(axes)
    result: Axes = [
        _tie_all(trace, [axes[place] for axes in others], f'concatenation {_FIXED}') if place != dim else None
        for place in range(len(others[0]))
    ]
    if any(axes[dim] is not None for axes in others):
        result[dim] = np.concatenate(along)
    trace.set_axes(call.outputs[0], result)


_SAME_NUMBERS = frozenset(('alias', 'clone', 'contiguous', 'detach', 'lift_fresh', '_to_copy'))
_PER_CHANNEL = (
    r'_?(max_pool|avg_pool|adaptive_avg_pool|adaptive_max_pool|upsample_\w+|reflection_pad|replication_pad)[123]d\w*'
)

RULES: dict[str, Rule] = {
    **dict.fromkeys(_SAME_NUMBERS, pointwise),
    **dict.fromkeys(
        ('copy_', 'masked_fill', 'fill', 'native_dropout', '_prelu_kernel', 'celu', 'elu', 'gelu', 'hardsigmoid',
         'hardswish', 'hardtanh', 'leaky_relu', 'mish', 'selu', 'softplus', 'softshrink', 'threshold'),
        pointwise,
    ),
    **dict.fromkeys(('zeros_like', 'ones_like', 'full_like', 'empty_like', 'zero'), pointwise),
    **dict.fromkeys(('new_zeros', 'new_empty', 'new_ones', 'new_full', 'new_empty_strided', 'sym_size'), nothing),
    'convolution': convolution,
    **dict.fromkeys(('mm', 'addmm', 'bmm', 'baddbmm'), matrix_product),
    **dict.fromkeys(
        ('native_batch_norm', '_native_batch_norm_legit', '_native_batch_norm_legit_no_training', 'cudnn_batch_norm',
         'miopen_batch_norm', 'batch_norm_with_update', '_batch_norm_with_update', '_batch_norm_no_update'),
        batch_norm,
    ),
    'native_layer_norm': layer_norm,
    'native_group_norm': group_norm,
    '_softmax': softmax,
    '_log_softmax': softmax,
    **dict.fromkeys(
        ('mean', 'sum', 'amax', 'amin', 'max', 'min', 'var', 'std', 'var_mean', 'linalg_vector_norm', 'norm',
         'logsumexp', 'argmax', 'argmin', 'any', 'all'),
        reduction,
    ),
    'constant_pad_nd': pad,
    **dict.fromkeys(('t', 'transpose', 'permute', 'unsqueeze', 'squeeze', 'expand'), reorder),
    **dict.fromkeys(('view', '_unsafe_view', 'reshape', '_reshape_alias'), reshape),
    **dict.fromkeys(('select', 'slice', 'split', 'split_with_sizes', 'unbind'), take),
    **dict.fromkeys(('cat', 'stack'), concatenate),
}  # fmt: skip
