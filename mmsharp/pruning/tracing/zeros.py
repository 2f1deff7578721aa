"""Where dead channels are exactly zero, whatever the masks and the inputs are.

A channel whose filter and bias are zero gives zero until something adds to it: ``relu(0) = 0``, ``0 * x = 0``,
``0 + 0 = 0``, but ``sigmoid(0) = 0.5``. Where zeros are certain, a sum over channels is the same with and without
them, and so is a mean that is divided by the number of channels there once were. One function per family of
operations says in which dimensions of a result dead channels are zero; what has none claims nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import Tensor

from mmsharp.pruning.tracing.calls import PER_CHANNEL, Call, reduced_dimensions
from mmsharp.pruning.tracing.rearrangements import blocks_of, dimension_places, moves_nothing

if TYPE_CHECKING:
    from mmsharp.pruning.tracing import ChannelTrace

_KEEPS_ZERO = frozenset(
    ('alias', 'clone', 'contiguous', 'detach', 'lift_fresh', '_to_copy', 'native_dropout', 'relu', 'relu6', 'gelu',
     'silu', 'mish', 'elu', 'celu', 'selu', 'leaky_relu', 'hardswish', 'tanh', 'erf', 'neg', 'abs', 'sqrt', 'sin',
     'sign', 'square', '_prelu_kernel', 'roll', 'flip', 'index_select', 'slice', 'split', 'split_with_sizes')
)  # fmt: skip
_REORDERS = frozenset(('t', 'transpose', 'permute', 'unsqueeze', 'squeeze', 'expand'))
_RESHAPES = frozenset(('view', '_unsafe_view', 'reshape', '_reshape_alias'))
_REDUCES = frozenset(('mean', 'sum', 'amax', 'amin', 'norm', 'linalg_vector_norm'))


def zero_dimensions(trace: ChannelTrace, call: Call) -> set[int]:
    """Dimensions of the results along which dead channels are exactly zero.

    Called after the labels of the results are set, with what is known of the inputs.
    """
    name = call.name if call.name == 'copy_' else call.name.rstrip('_')
    x, y = call.inputs[0], call.outputs[0]
    known = trace.zeros(x)
    if name in _KEEPS_ZERO:
        return known
    if name == 'hardtanh':
        return known if call.arguments['min_val'] <= 0 <= call.arguments['max_val'] else set()
    if name == 'pow':
        exponent = call.arguments['exponent']
        return known if isinstance(exponent, (int, float)) and exponent > 0 else set()
    if name in ('mul', 'add', 'sub', 'div', 'copy_'):
        return _arithmetic(trace, call, name)
    if name in _REORDERS:
        return {place for place, source in enumerate(dimension_places(call, x)) if source in known}
    if name in _RESHAPES:
        return _reshaped(trace, x, y)
    if name == 'as_strided':
        return known if moves_nothing(call, trace.axes(x)) else set()
    if name in ('select', 'unbind'):
        gone = call.arguments['dim'] % x.dim()
        return {dim - (dim > gone) for dim in known if dim != gone}
    if name == 'cat':
        return _concatenated(trace, call)
    if name == 'constant_pad_nd':
        return known if not call.arguments['value'] else set()
    if re.fullmatch(PER_CHANNEL, name):
        return {dim for dim in known if dim < x.dim() - int(re.findall(r'([123])d', name)[0])}
    if name in _REDUCES:
        gone_dims = reduced_dimensions(call, x)
        keep = bool(call.arguments.get('keepdim'))
        return {dim if keep else dim - sum(gone < dim for gone in gone_dims) for dim in known - gone_dims}
    if name == 'embedding':
        return {y.dim() - 1} if 1 in trace.zeros(call.arguments['weight']) else set()
    if name == 'repeat':
        return {dim + y.dim() - x.dim() for dim in known}
    if name in ('im2col', 'grid_sampler_2d', 'grid_sampler_3d'):
        return known & {1}
    return _weighted(trace, call, name)


def _weighted(trace: ChannelTrace, call: Call, name: str) -> set[int]:
    """What makes channels, or scales and shifts each: zero where weight and bias are."""
    arguments, y = call.arguments, call.outputs[0]

    def stored_zero(name: str, dim: int = 0) -> bool:
        tensor = arguments.get(name)
        return tensor is None or dim in trace.zeros(tensor)

    if name == 'convolution':
        made = stored_zero('weight', 1 if arguments['transposed'] else 0) and stored_zero('bias')
        return {1} if made else set()
    if name in ('mm', 'bmm', 'addmm', 'baddbmm'):
        *addends, _, b = call.inputs
        added = all(addend.dim() - 1 in trace.zeros(addend) for addend in addends)
        return {y.dim() - 1} if b.dim() - 1 in trace.zeros(b) and added else set()
    scaled = arguments.get('weight') is not None and stored_zero('weight') and stored_zero('bias')
    if name == 'native_layer_norm':
        return {y.dim() - 1} if scaled and len(arguments['normalized_shape']) == 1 else set()
    if 'batch_norm' in name or name == 'native_group_norm':
        return {1} if scaled else set()
    return set()


def _arithmetic(trace: ChannelTrace, call: Call, name: str) -> set[int]:
    """A product is zero where a factor is, a quotient where what is divided is, a sum where all addends are."""
    first, second = call.arguments['self'], call.arguments['src' if name == 'copy_' else 'other']
    y = call.outputs[0]
    sides = [_broadcast(trace, side, y) for side in (first, second)]
    if name == 'copy_':
        return sides[1]
    if name == 'div':
        return sides[0]
    return sides[0] | sides[1] if name == 'mul' else sides[0] & sides[1]


def _broadcast(trace: ChannelTrace, side: object, y: Tensor) -> set[int]:
    if not isinstance(side, Tensor):
        return set()
    moved = y.dim() - side.dim()
    return {dim + moved for dim in trace.zeros(side) if side.shape[dim] == y.shape[dim + moved]}


def _reshaped(trace: ChannelTrace, x: Tensor, y: Tensor) -> set[int]:
    axes, result = trace.axes(x), trace.axes(y)
    found: set[int] = set()
    for before, after in blocks_of(x.shape, y.shape):
        labelled = {dim for dim in before if axes[dim] is not None}
        if labelled and labelled <= trace.zeros(x):
            found |= {dim for dim in after if result[dim] is not None}
    return found


def _concatenated(trace: ChannelTrace, call: Call) -> set[int]:
    """Zero where every part is; a part without channels along the dimension never loses any there."""
    parts = [tensor for tensor in call.inputs if tensor.dim() > 1 or tensor.numel()]
    along = call.arguments['dim'] % parts[0].dim()
    found = {along} if all(along in trace.zeros(part) or trace.axes(part)[along] is None for part in parts) else set()
    others = [trace.zeros(part) - {along} for part in parts]
    return found | set.intersection(*others)
