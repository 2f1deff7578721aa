"""What each PyTorch operation does to labels: one function per family, one table from operation to family.

A rule may be missing (channels are then pinned), but it must never be wrong: it holds for any mask, whatever the
values are. So a sum or a statistic over channels pins them, except a product with a stored weight, whose input side
masks make zero.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from mmsharp.pruning.tracing.calls import FIXED, PER_CHANNEL, Call, Rule, reduced_dimensions, tie_all
from mmsharp.pruning.tracing.labels import Axes, Labels
from mmsharp.pruning.tracing.rearrangements import (
    concatenate,
    pad,
    reorder,
    repeat,
    reshape,
    restride,
    take,
)
from mmsharp.pruning.tracing.zeros import zero_dimensions

if TYPE_CHECKING:
    from mmsharp.pruning.tracing import ChannelTrace


def apply_rule(
    trace: ChannelTrace,
    func: Any,
    args: Any,
    kwargs: Any,
    inputs: list[Tensor],
    strides: list[tuple[int, ...]],
    result: Any,
) -> None:
    """Find the rule of an operation and apply it; without one, pin."""
    name = func._schema.name.removeprefix('aten::')
    names = [argument.name for argument in func._schema.arguments]
    arguments = {argument.name: argument.default_value for argument in func._schema.arguments}
    arguments.update(zip(names, args), **kwargs)
    outputs = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
    call = Call(name, arguments, inputs, outputs, func.overloadpacket in flop_registry, strides)
    rule = RULES.get(name) or RULES.get(name.rstrip('_'))
    if rule is None and torch.Tag.pointwise in func.tags:
        rule = pointwise
    if rule is None and re.fullmatch(PER_CHANNEL, name):
        rule = per_channel
    if rule is None and name.startswith('_scaled_dot_product_'):
        rule = attention
    try:
        (rule or unknown)(trace, call)
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError):
        unknown(trace, call)  # a form of the operation that its rule was not written for
    if outputs:
        trace.set_zeros(outputs, zero_dimensions(trace, call), func._schema.is_mutable)


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
        axes.append(tie_all(trace, sides, f'`{call.name}` {FIXED}'))
    for output in call.outputs:
        if output.shape == shape:
            trace.set_axes(output, axes)
    if len(call.inputs) == 1 and call.name in _SAME_NUMBERS and trace.is_weight(call.inputs[0]):
        trace.set_weight(call.outputs[0])


def convolution(trace: ChannelTrace, call: Call) -> None:
    """``out_o = sum_i w_oi * in_i + b_o``; in groups, each sums over its own inputs."""
    x, weight, bias = (call.arguments[name] for name in ('input', 'weight', 'bias'))
    x_axes, w_axes = trace.axes(x), trace.axes(weight)
    groups, transposed = call.arguments['groups'], call.arguments['transposed']
    places = (x if transposed else call.outputs[0]).shape[2:]
    trace.count_product([(x.shape[0], x_axes[0]), (places.numel(), None), *zip(weight.shape, w_axes)])
    out, inward = (w_axes[1], w_axes[0]) if transposed else (w_axes[0], w_axes[1])
    if groups == 1:
        masked = trace.is_weight(weight) or 1 in trace.zeros(x)
        _contract(trace, x_axes[1], inward, masked, call.name)
    elif not transposed and weight.shape[1] == 1 and weight.shape[0] == groups:
        out = tie_all(trace, [out, x_axes[1]], f'depthwise convolution {FIXED}')
    elif not transposed and out is not None and x_axes[1] is not None and trace.is_weight(weight):
        if w_axes[1] is not None:
            trace.labels.tie(x_axes[1], np.tile(w_axes[1], groups), 'groups of a convolution')
            trace.labels.tie(out, np.tile(out[: len(out) // groups], groups), 'groups of a convolution')
        else:
            first = out[:: len(out) // groups]
            for members in (out, x_axes[1]):
                trace.labels.tie(members, np.repeat(first, len(members) // groups), 'a group of a convolution')
    else:
        trace.pin_tensors([x, weight], f'convolution in {groups} groups {FIXED}')
        out = None
    if bias is not None and bias.dim() == 1 and len(bias) > 1:
        out = tie_all(trace, [out, trace.axes(bias)[0]], f'bias {FIXED}')
    trace.set_axes(call.outputs[0], [x_axes[0], out] + [None] * (x.dim() - 2))
    for labels in (*x_axes[2:], *w_axes[2:]):
        trace.labels.pin(labels, trace.because('channels lie along the image'))


def _contract(trace: ChannelTrace, first: Labels | None, second: Labels | None, masked: bool, what: str) -> None:
    """A sum over an axis: fine where one factor is zero for dead channels, as stored weights are."""
    if masked:
        trace.labels.tie(first, second, trace.because(f'`{what}` {FIXED}'))
    else:
        for labels in (first, second):
            trace.labels.pin(labels, trace.because(f'`{what}` sums over channels without a stored weight'))


def matrix_product(trace: ChannelTrace, call: Call) -> None:
    """``out[..., m, n] = sum_k a[..., m, k] b[..., k, n]`` (+ an addend)."""
    a, b = call.inputs[-2:]
    a_axes, b_axes = trace.axes(a), trace.axes(b)
    trace.count_product([*zip(a.shape, a_axes), (b.shape[-1], b_axes[-1])])
    zero = a.dim() - 1 in trace.zeros(a) or b.dim() - 2 in trace.zeros(b)
    _contract(trace, a_axes[-1], b_axes[-2], zero or trace.is_weight(a) or trace.is_weight(b), call.name)
    axes: Axes = [tie_all(trace, [first, second], FIXED) for first, second in zip(a_axes[:-2], b_axes[:-2])]
    axes += [a_axes[-2], b_axes[-1]]
    if len(call.inputs) == 3:
        addend = call.inputs[0]
        for offset, labels in enumerate(reversed(trace.axes(addend)), start=1):
            if addend.shape[-offset] > 1:
                axes[-offset] = tie_all(trace, [axes[-offset], labels], f'addend {FIXED}')
    trace.set_axes(call.outputs[0], axes)


def batch_norm(trace: ChannelTrace, call: Call) -> None:
    """Each channel by itself, along dimension 1."""
    x, *others = call.inputs
    axes = trace.axes(x)
    sides = [axes[1], *(trace.axes(tensor)[0] for tensor in others if tensor.dim() == 1)]
    if x.shape[1] > 1:
        axes[1] = tie_all(trace, sides, f'batch normalisation {FIXED}')
    trace.set_axes(call.outputs[0], axes)


def layer_norm(trace: ChannelTrace, call: Call) -> None:
    """Statistics over the last dimensions; over dead channels that are zero, by a module that can count them on."""
    x, weight = call.inputs[0], call.arguments['weight']
    axes = trace.axes(x)
    if len(call.arguments['normalized_shape']) == 1 and weight is not None and _counts_on(trace, x, x.dim() - 1):
        sides = [axes[-1], *(trace.axes(tensor)[0] for tensor in call.inputs[1:])]
        axes[-1] = tie_all(trace, sides, f'layer normalisation {FIXED}')
    else:
        for labels in axes[x.dim() - len(call.arguments['normalized_shape']) :]:
            trace.labels.pin(labels, trace.because('layer normalisation takes its statistics over channels'))
    trace.set_axes(call.outputs[0], axes)


def _counts_on(trace: ChannelTrace, x: Tensor, dim: int) -> bool:
    """Whether dead channels are zero here, and the running module divides by the number that there once was."""
    return dim in trace.zeros(x) and trace.in_block_that_counts()


def group_norm(trace: ChannelTrace, call: Call) -> None:
    """Statistics over groups of channels, each group by itself; over all of them as a layer normalisation."""
    x, weight = call.inputs[0], call.arguments['weight']
    axes = trace.axes(x)
    alone = call.arguments['group'] > 1 and trace.in_block_with('groups')
    if weight is not None and (alone or _counts_on(trace, x, 1)):
        sides = [axes[1], *(trace.axes(tensor)[0] for tensor in call.inputs[1:])]
        axes[1] = tie_all(trace, sides, f'group normalisation {FIXED}')
    else:
        trace.labels.pin(axes[1], trace.because('group normalisation takes its statistics over channels'))
    trace.set_axes(call.outputs[0], axes)


def attention(trace: ChannelTrace, call: Call) -> None:
    """``softmax(q k^T + bias) v`` per image and head: ``(..., queries, width)``."""
    query, key, value = (call.arguments[name] for name in ('query', 'key', 'value'))
    sides = [trace.axes(tensor) for tensor in (query, key, value)]
    bias = call.arguments.get('attn_mask', call.arguments.get('attn_bias'))
    (*_, queries, width), (*_, keys, inner) = sides[0], sides[1]
    for labels in (width, keys, inner, sides[2][-2]):
        trace.labels.pin(labels, trace.because('attention sums over channels without a stored weight'))
    axes: Axes = [tie_all(trace, list(lead), f'attention {FIXED}') for lead in zip(*(side[:-2] for side in sides))]
    if isinstance(bias, Tensor):
        for offset, labels in enumerate(reversed(trace.axes(bias)), start=1):
            if offset == 1:
                trace.labels.pin(labels, trace.because('softmax over channels'))
            elif bias.shape[-offset] > 1:
                other = queries if offset == 2 else axes[-offset + 2]
                trace.labels.tie(other, labels, trace.because(f'attention {FIXED}'))
    trace.set_axes(call.outputs[0], [*axes, queries, sides[2][-1]])
    if call.counted:
        lead = list(zip(query.shape[:-2], axes))
        for inside in (query.shape[-1], value.shape[-1]):
            trace.count_product([*lead, (query.shape[-2] * key.shape[-2] * inside, None)])


def softmax(trace: ChannelTrace, call: Call) -> None:
    """Normalised over one dimension."""
    axes = trace.axes(call.inputs[0])
    trace.labels.pin(axes[call.arguments['dim']], trace.because('softmax over channels'))
    trace.set_axes(call.outputs[0], axes)


def reduction(trace: ChannelTrace, call: Call) -> None:
    """A statistic over some dimensions; a sum or a norm does not see dead channels that are zero.

    Nor do a mean and a variance in a module that, once slim, counts them on.
    """
    x = call.inputs[0]
    axes = trace.axes(x)
    reduced = reduced_dimensions(call, x)
    for dim in reduced:
        zero = dim in trace.zeros(x)
        summed = call.name in ('sum', 'linalg_vector_norm') and call.arguments.get('ord', 2) == 2
        spread = call.name in ('var', 'std') and zero and trace.in_block_that_counts()
        if (zero and summed) or spread or (call.name == 'mean' and trace.counts_means(zero)):
            axes[dim] = None
    for dim in reduced:
        trace.pin_readers(call.outputs, axes[dim], f'`{call.name}` reads all channels at once')
    keep = bool(call.arguments.get('keepdim'))
    left = [None if dim in reduced else labels for dim, labels in enumerate(axes) if keep or dim not in reduced]
    for output in call.outputs:
        trace.set_axes(output, left)


def along(trace: ChannelTrace, call: Call) -> None:
    """What moves or gathers values along some dimensions, and leaves the others alone."""
    x, axes = call.inputs[0], trace.axes(call.inputs[0])
    dims = call.arguments.get('dims', call.arguments.get('dim'))
    dims = [dims] if isinstance(dims, int) else list(dims or range(x.dim()))
    for dim in {dim % x.dim() for dim in dims}:
        trace.labels.pin(axes[dim], trace.because(f'`{call.name}` along channels'))
        axes[dim] = None
    for output in call.outputs:
        if all(before == after for before, after, labels in zip(x.shape, output.shape, axes) if labels is not None):
            trace.set_axes(output, axes)
        else:
            unknown(trace, call)


def index(trace: ChannelTrace, call: Call) -> None:
    """``x[..., numbers, ...]``: the dimensions that are indexed give way to those of the numbers."""
    x, axes = call.inputs[0], trace.axes(call.inputs[0])
    numbers = list(call.arguments['indices'])
    numbers += [None] * (x.dim() - len(numbers))
    places = [dim for dim, number in enumerate(numbers) if number is not None]
    if any(numbers[dim].dtype == torch.bool for dim in places):
        return unknown(trace, call)
    for dim in places:
        trace.labels.pin(axes[dim], trace.because('takes channels by their number'))
    inserted: Axes = [None] * max(numbers[dim].dim() for dim in places)
    rest = [labels for dim, labels in enumerate(axes) if dim not in places]
    start = places[0] if places == list(range(places[0], places[-1] + 1)) else 0
    return trace.set_axes(call.outputs[0], rest[:start] + inserted + rest[start:])


def embedding(trace: ChannelTrace, call: Call) -> None:
    """Rows of a table."""
    numbers, (rows, columns) = call.arguments['indices'], trace.axes(call.arguments['weight'])
    trace.labels.pin(rows, trace.because('takes channels by their number'))
    trace.set_axes(call.outputs[0], [*([None] * numbers.dim()), columns])


def sample(trace: ChannelTrace, call: Call) -> None:
    """Values of each channel at places of the image that a grid names."""
    (batch, names, *image), grid = trace.axes(call.arguments['input']), trace.axes(call.arguments['grid'])
    for labels in (*image, *grid[1:]):
        trace.labels.pin(labels, trace.because('channels lie along the image'))
    trace.set_axes(call.outputs[0], [tie_all(trace, [batch, grid[0]], FIXED), names, *([None] * len(image))])


def patches(trace: ChannelTrace, call: Call) -> None:
    """``(batch, C, H, W)`` to ``(batch, C * kernel, places)``: each channel gives a run of the kernel's size."""
    batch, names, *image = trace.axes(call.inputs[0])
    for labels in image:
        trace.labels.pin(labels, trace.because('channels lie along the image'))
    run = math.prod(call.arguments['kernel_size'])
    trace.set_axes(call.outputs[0], [batch, None if names is None else np.repeat(names, run), None])


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


_SAME_NUMBERS = frozenset(('alias', 'clone', 'contiguous', 'detach', 'lift_fresh', '_to_copy'))

RULES: dict[str, Rule] = {
    **dict.fromkeys(_SAME_NUMBERS, pointwise),
    **dict.fromkeys(
        ('copy_', 'masked_fill', 'fill', 'native_dropout', '_prelu_kernel', 'celu', 'elu', 'gelu', 'hardsigmoid',
         'hardswish', 'hardtanh', 'leaky_relu', 'mish', 'selu', 'softplus', 'softshrink', 'threshold'),
        pointwise,
    ),
    **dict.fromkeys(('zeros_like', 'ones_like', 'full_like', 'empty_like', 'zero'), pointwise),
    **dict.fromkeys(('bernoulli', 'normal', 'uniform'), pointwise),
    **dict.fromkeys(('new_zeros', 'new_empty', 'new_ones', 'new_full', 'new_empty_strided'), nothing),
    'convolution': convolution,
    **dict.fromkeys(('mm', 'addmm', 'bmm', 'baddbmm'), matrix_product),
    **dict.fromkeys(
        ('native_batch_norm', '_native_batch_norm_legit', '_native_batch_norm_legit_no_training', 'cudnn_batch_norm',
         'miopen_batch_norm', 'batch_norm_with_update', '_batch_norm_with_update', '_batch_norm_no_update'),
        batch_norm,
    ),
    'native_layer_norm': layer_norm,
    'native_group_norm': group_norm,
    **dict.fromkeys(('_softmax', '_log_softmax', '_safe_softmax', 'cumsum'), softmax),
    **dict.fromkeys(('roll', 'flip', 'sort', 'topk', 'gather', 'index_select'), along),
    'index': index,
    'embedding': embedding,
    'im2col': patches,
    'grid_sampler_2d': sample,
    'grid_sampler_3d': sample,
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
    'repeat': repeat,
    'as_strided': restride,
}  # fmt: skip
