"""Rules of the operations that move values around: reshape, reorder, take, put side by side, pad."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mmsharp.pruning.tracing.calls import FIXED, Call, tie_all
from mmsharp.pruning.tracing.labels import Axes, Labels

if TYPE_CHECKING:
    from mmsharp.pruning.tracing import ChannelTrace


def pad(trace: ChannelTrace, call: Call) -> None:
    """New places beside the old ones; padded channels are pinned."""
    x, axes = call.inputs[0], trace.axes(call.inputs[0])
    for place in range(len(call.arguments['pad']) // 2):
        if any(call.arguments['pad'][2 * place : 2 * place + 2]):
            trace.labels.pin(axes[x.dim() - 1 - place], trace.because('padded along channels'))
            axes[x.dim() - 1 - place] = None
    trace.set_axes(call.outputs[0], axes)


def restride(trace: ChannelTrace, call: Call) -> None:
    """Other strides for dimensions of size 1, as after pooling to one pixel in channels_last: nothing moves.

    Raises:
        ValueError: Numbers may move.
    """
    x, axes = call.inputs[0], trace.axes(call.inputs[0])
    if not moves_nothing(call, axes):
        raise ValueError('as_strided')
    trace.set_axes(call.outputs[0], axes)
    if trace.is_weight(x):
        trace.set_weight(call.outputs[0])


def moves_nothing(call: Call, axes: Axes) -> bool:
    """Whether ``as_strided`` leaves every number of a tensor where it is."""
    (before, *_), (size, after) = call.strides, (call.arguments[name] for name in ('size', 'stride'))
    if len(size) != len(before) or call.arguments['storage_offset'] is not None:
        return False
    same = all(labels is None or len(labels) == length for labels, length in zip(axes, size))
    return same and all(old == new for old, new, length in zip(before, after, size) if length > 1)


def reorder(trace: ChannelTrace, call: Call) -> None:
    """Transpose, permute, squeeze, unsqueeze, expand: dimensions move, appear or vanish, and keep their contents."""
    x = call.inputs[0]
    places = dimension_places(call, x)
    axes = trace.axes(x)
    trace.set_axes(call.outputs[0], [None if place is None else axes[place] for place in places])
    if trace.is_weight(x):
        trace.set_weight(call.outputs[0])


def dimension_places(call: Call, x: Tensor) -> list[int | None]:
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
    """Dimensions merge or split; labels are repeated along what they merge with, and come apart in equal parts.

    Where channels come apart, as in ``(batch, heads * width)`` to ``(batch, heads, width)``, one of the new dimensions
    holds the channels from then on, and what lies along the others is tied: in a block with heads their dimension,
    the last but one; anywhere else the last one, for the code that gives its size is taken to know only the number of
    parts (:mod:`~mmsharp.pruning.groups.agreement` finds out where that is wrong).
    """
    x, y = call.inputs[0], call.outputs[0]
    axes, result = trace.axes(x), [None] * y.dim()  # type: tuple[Axes, Axes]
    for before, after in blocks_of(x.shape, y.shape):
        labelled = [dim for dim in before if axes[dim] is not None]
        if not labelled:
            continue
        if len(labelled) > 1:
            for dim in labelled:
                trace.labels.pin(axes[dim], trace.because('a reshape merges two kinds of channels'))
            continue
        names = axes[labelled[0]]
        assert names is not None
        shape = [len(names) if dim == labelled[0] else 1 for dim in before]
        full = np.broadcast_to(names.reshape(shape), [x.shape[dim] for dim in before])
        spread = full.reshape([y.shape[dim] for dim in after])
        home = _only_axis(spread)
        if home is None:
            home = _come_apart(trace, spread)
        if home is None:
            trace.labels.pin(names, trace.because('a reshape takes channels apart'))
        else:
            result[after[home]] = np.moveaxis(spread, home, 0).reshape(spread.shape[home], -1)[:, 0].copy()
    trace.set_axes(y, result)
    if trace.is_weight(x):
        trace.set_weight(y)


def _come_apart(trace: ChannelTrace, spread: Labels) -> int | None:
    """Tie what comes apart into parts; the dimension that holds the channels afterwards, ``None`` if there is none."""
    if (reason := trace.without_slim_form()) is not None:
        trace.labels.pin(spread.reshape(-1), trace.because(reason))
        return None
    wide = [dim for dim in range(spread.ndim) if spread.shape[dim] > 1]
    head_width = trace.head_width()
    if trace.in_block_with('heads') and head_width in (None, spread.shape[wide[-1]]):
        heads = trace.block_axis('heads')
        if heads is None or len(wide) < 2 or spread.shape[wide[-2]] % len(heads):
            return None
        home = wide[-2]
        along = np.tile(heads, spread.shape[home] // len(heads))
        expected = along.reshape([-1 if dim == home else 1 for dim in range(spread.ndim)])
    else:
        home = wide[-1]
        expected = spread[tuple(slice(None) if dim == home else slice(1) for dim in range(spread.ndim))]
    trace.labels.tie(spread.reshape(-1), np.broadcast_to(expected, spread.shape).reshape(-1), 'parts')
    return home


def blocks_of(before: torch.Size, after: torch.Size) -> list[tuple[list[int], list[int]]]:
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
    """Select, slice, split, unbind along one dimension: fine beside channels; along them, in equal parts.

    Equal parts (``chunk``, both halves by slices) are taken to follow from the tensor's own width, and what has the
    same place in each is tied. Where a number stored in the block says their width instead, either the block has a
    row with the axis ``'part'``, or :mod:`~mmsharp.pruning.groups.agreement` finds out.
    """
    x, axes = call.inputs[0], trace.axes(call.inputs[0])
    dim = call.arguments['dim'] % x.dim()
    if call.name == 'slice' and call.outputs[0].shape == x.shape:
        trace.set_axes(call.outputs[0], axes)
        return
    labels = axes[dim]
    if labels is not None and (end := _end_part(trace, call, labels)) is not None:
        trace.set_axes(call.outputs[0], [*axes[:dim], end, *axes[dim + 1 :]])
        return
    if labels is not None:
        labels = _equal_parts(trace, call, labels, dim)
    offset = 0
    for output in call.outputs:
        if call.name in ('select', 'unbind'):
            left: Axes = axes[:dim] + axes[dim + 1 :]
        elif call.name == 'slice':
            steps = slice(call.arguments['start'], call.arguments['end'], call.arguments['step'])
            left = [*axes[:dim], None if labels is None else labels[steps], *axes[dim + 1 :]]
        else:
            size = output.shape[dim]
            part = None if labels is None else labels[offset : offset + size]
            left = [*axes[:dim], part, *axes[dim + 1 :]]
            offset += size
        trace.set_axes(output, left)
        if trace.is_weight(x):
            trace.set_weight(output)


def _end_part(trace: ChannelTrace, call: Call, labels: Labels) -> Labels | None:
    """Labels of a slice that the running block takes off an end of the channels, if it has a name for it."""
    if call.name != 'slice' or call.arguments['step'] != 1:
        return None
    start, end, _ = slice(call.arguments['start'], call.arguments['end']).indices(len(labels))
    for name in [name for name, at_end in (('first', start == 0), ('last', end == len(labels))) if at_end]:
        part = trace.spread_axis(name)
        if part is not None and len(part) == end - start:
            trace.labels.tie(labels[start:end], part, 'parts')
            return part
    return None


def _equal_parts(trace: ChannelTrace, call: Call, labels: Labels, dim: int) -> Labels | None:
    """Tie the parts to each other, or pin what is not taken in equal parts."""
    sizes = {output.shape[dim] for output in call.outputs} if call.name not in ('select', 'unbind') else {1}
    size = max(sizes)
    start = 0
    if call.name == 'slice':
        start, *_ = slice(call.arguments['start'], call.arguments['end']).indices(len(labels))
        size = size if call.arguments['step'] == 1 else 1
    if len(sizes) > 1 and trace.in_block_with('heads'):
        size, sizes = math.gcd(*sizes), {0}  # queries apart from keys and values
    part = trace.block_axis('part')
    if size > 1 and len(sizes) == 1 and len(labels) % size == 0 and start % size == 0:
        first = labels[:size] if part is None or len(part) != size else part
        trace.labels.tie(labels, np.tile(first, len(labels) // size), 'parts')
        return labels
    trace.labels.pin(labels, trace.because(f'`{call.name}` takes channels by their number'))
    return labels


def repeat(trace: ChannelTrace, call: Call) -> None:
    """Copies one after the other along each dimension."""
    times = list(call.arguments['repeats'])
    axes: Axes = [None] * (len(times) - call.inputs[0].dim())
    axes += trace.axes(call.inputs[0])
    trace.set_axes(
        call.outputs[0], [None if labels is None else np.tile(labels, count) for labels, count in zip(axes, times)]
    )


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
                trace.labels.pin(labels, trace.because(f'concatenation {FIXED}'))
            along.append(labels)
        others.append(axes)
    result: Axes = [
        tie_all(trace, [axes[place] for axes in others], f'concatenation {FIXED}') if place != dim else None
        for place in range(len(others[0]))
    ]
    if any(axes[dim] is not None for axes in others):
        result[dim] = np.concatenate(along)
    trace.set_axes(call.outputs[0], result)
