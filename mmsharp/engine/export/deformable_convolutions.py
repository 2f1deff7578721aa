"""Deformable convolutions as ONNX has them since operator set 19."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import torch

from mmsharp.errors import MmsharpError

OPSET = 19
"""The first operator set with ``DeformConv``."""


class _Call(NamedTuple):
    """Sizes of one call, which the graph does not know where a model computes them from shapes."""

    images: tuple[int, ...]
    offset: tuple[int, ...]
    weight: tuple[int, ...]

    @classmethod
    def of(cls, images: Any, offset: Any, weight: Any) -> _Call:
        return cls(_sizes(images)[1:], _sizes(offset)[1:], _sizes(weight))


def _sizes(tensor: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in tensor.shape)


@contextmanager
def standard_deformations(opset: int) -> Iterator[None]:
    """Let the exporter that follows one run write mmcv's deformable convolutions as ONNX's own ``DeformConv``.

    mmcv writes operators of its own, which only runtimes that were built with them know. Both versions, with and
    without modulation, hold their offsets as ONNX does: ``(y, x)`` for every position of the kernel.

    Args:
        opset: What is written.

    Raises:
        MmsharpError: While exporting, where the network has such a layer and the operator set does not.
    """
    calls: deque[_Call] = deque()

    def next_call() -> _Call:
        if opset < OPSET:
            raise MmsharpError(f'deformable convolutions need operator set {OPSET}, not {opset}; give another --opset')
        return calls.popleft()  # layers are written in the order in which they ran

    with ExitStack() as stack:
        for function, is_modulated in _functions():
            noted = _noted(function, is_modulated, calls.append)
            stack.enter_context(patch.object(function, 'forward', staticmethod(noted)))
            symbolic = _modulated if is_modulated else _plain
            stack.enter_context(patch.object(function, 'symbolic', staticmethod(partial(symbolic, next_call))))
        yield


@contextmanager
def noticed_deformations() -> Iterator[list[_Call]]:
    """List the deformable convolutions that run inside."""
    seen: list[_Call] = []
    with ExitStack() as stack:
        for function, is_modulated in _functions():
            noted = _noted(function, is_modulated, seen.append)
            stack.enter_context(patch.object(function, 'forward', staticmethod(noted)))
        yield seen


def _functions() -> list[tuple[Any, bool]]:
    """The autograd functions of mmcv, and whether they modulate; none where mmcv has no compiled operators."""
    try:
        from mmcv.ops.deform_conv import DeformConv2dFunction
        from mmcv.ops.modulated_deform_conv import ModulatedDeformConv2dFunction
    except ImportError:
        return []
    return [(DeformConv2dFunction, False), (ModulatedDeformConv2dFunction, True)]


def _noted(function: Any, is_modulated: bool, note: Callable[[_Call], None]) -> Callable[..., Any]:
    forward = function.forward

    def noting(context: Any, images: Any, offset: Any, *rest: Any, **options: Any) -> Any:
        note(_Call.of(images, offset, rest[1] if is_modulated else rest[0]))
        return forward(context, images, offset, *rest, **options)

    return noting


def _plain(
    next_call: Callable[[], _Call],
    graph: Any,
    images: Any,
    offset: Any,
    weight: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    *_: Any,
) -> Any:
    options = _options(next_call(), stride, padding, dilation)
    return graph.op('DeformConv', images, weight, offset, **options)


def _modulated(
    next_call: Callable[[], _Call],
    graph: Any,
    images: Any,
    offset: Any,
    mask: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    *_: Any,
) -> Any:
    call = next_call()
    if bias is None or bias.node().mustBeNone():
        bias = graph.op('Constant', value_t=torch.zeros(call.weight[0]))
    options = _options(call, stride, padding, dilation)
    size = _output_size(call, options)
    if call.offset[1:] != size:
        offset = _of_output_size(graph, offset, call.offset[0], size)
        mask = _of_output_size(graph, mask, call.offset[0] // 2, size)
    return graph.op('DeformConv', images, weight, offset, bias, mask, **options)


def _output_size(call: _Call, options: Any) -> tuple[int, ...]:
    """Height and width of what a convolution gives."""
    return tuple(
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, padding, dilation, kernel, stride in zip(
            call.images[1:],
            options['pads_i'],
            options['dilations_i'],
            options['kernel_shape_i'],
            options['strides_i'],
        )
    )


def _of_output_size(graph: Any, maps: Any, channels: int, size: tuple[int, ...]) -> Any:
    """Offsets or masks in the size of the output, read as mmcv reads larger ones: the first numbers of each image.

    DyHead gives its lowest level the offsets of the next higher resolution.
    """

    def constant(*values: int) -> Any:
        return graph.op('Constant', value_t=torch.tensor(values))

    flat = graph.op('Reshape', maps, constant(0, -1))
    used = graph.op('Slice', flat, constant(0), constant(channels * size[0] * size[1]), constant(1))
    return graph.op('Reshape', used, constant(-1, channels, *size))


def _options(call: _Call, stride: Any, padding: Any, dilation: Any) -> dict[str, list[int] | int]:
    """Attributes of the operator; numbers of groups come from the sizes, as models may compute them from a shape."""
    height, width = call.weight[2:]
    stride, padding, dilation = (
        [value, value] if isinstance(value, int) else list(value) for value in (stride, padding, dilation)
    )
    return dict(
        kernel_shape_i=[height, width],
        strides_i=stride,
        pads_i=[*padding, *padding],
        dilations_i=dilation,
        group_i=call.images[0] // call.weight[1],
        offset_group_i=call.offset[0] // (2 * height * width),
    )
