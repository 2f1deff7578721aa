"""Deformable convolutions as ONNX has them since operator set 19."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from mmsharp.errors import MmsharpError

OPSET = 19
"""The first operator set with ``DeformConv``."""


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
    with ExitStack() as stack:
        for function, symbolic in _functions():
            stack.enter_context(patch.object(function, 'symbolic', staticmethod(_of_opset(symbolic, opset))))
        yield


@contextmanager
def noticed_deformations() -> Iterator[list[str]]:
    """List the deformable convolutions that run inside, by the name of mmcv's function."""
    seen: list[str] = []
    with ExitStack() as stack:
        for function, _ in _functions():
            stack.enter_context(patch.object(function, 'forward', staticmethod(_noted(function, seen))))
        yield seen


def _functions() -> list[tuple[Any, Callable[..., Any]]]:
    """The autograd functions of mmcv with what stands for them; none where mmcv has no compiled operators."""
    try:
        from mmcv.ops.deform_conv import DeformConv2dFunction
        from mmcv.ops.modulated_deform_conv import ModulatedDeformConv2dFunction
    except ImportError:
        return []
    return [(DeformConv2dFunction, _plain), (ModulatedDeformConv2dFunction, _modulated)]


def _noted(function: Any, seen: list[str]) -> Callable[..., Any]:
    forward = function.forward

    def noting(*args: Any, **kwargs: Any) -> Any:
        seen.append(function.__name__)
        return forward(*args, **kwargs)

    return noting


def _of_opset(symbolic: Callable[..., Any], opset: int) -> Callable[..., Any]:
    def write(graph: Any, *args: Any, **kwargs: Any) -> Any:
        if opset < OPSET:
            raise MmsharpError(f'deformable convolutions need operator set {OPSET}, not {opset}; give another --opset')
        return symbolic(graph, *args, **kwargs)

    return write


def _plain(
    graph: Any,
    images: Any,
    offset: Any,
    weight: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    deform_groups: int,
    *_: Any,
) -> Any:
    options = _options(weight, stride, padding, dilation, groups, deform_groups)
    return graph.op('DeformConv', images, weight, offset, **options)


def _modulated(
    graph: Any,
    images: Any,
    offset: Any,
    mask: Any,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    deform_groups: int,
) -> Any:
    import torch

    if bias is None or bias.node().mustBeNone():
        bias = graph.op('Constant', value_t=torch.zeros(weight.type().sizes()[0]))
    options = _options(weight, stride, padding, dilation, groups, deform_groups)
    size = _output_size(images, options)
    offset, mask = _of_output_size(graph, offset, size), _of_output_size(graph, mask, size)
    return graph.op('DeformConv', images, weight, offset, bias, mask, **options)


def _output_size(images: Any, options: dict[str, Any]) -> list[int]:
    """Height and width of what a convolution gives."""
    return [
        (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        for size, padding, dilation, kernel, stride in zip(
            images.type().varyingSizes()[2:],
            options['pads_i'],
            options['dilations_i'],
            options['kernel_shape_i'],
            options['strides_i'],
        )
    ]


def _of_output_size(graph: Any, maps: Any, size: list[int]) -> Any:
    """Offsets or masks in the size of the output, read as mmcv reads larger ones: the first numbers of each image.

    DyHead gives its lowest level the offsets of the next higher resolution.
    """
    channels, *given = maps.type().varyingSizes()[1:]
    if given == size:
        return maps
    import torch

    def constant(*values: int) -> Any:
        return graph.op('Constant', value_t=torch.tensor(values))

    flat = graph.op('Reshape', maps, constant(0, -1))
    used = graph.op('Slice', flat, constant(0), constant(channels * size[0] * size[1]), constant(1))
    return graph.op('Reshape', used, constant(-1, channels, *size))


def _options(weight: Any, stride: Any, padding: Any, dilation: Any, groups: int, deform_groups: int) -> dict[str, Any]:
    stride, padding, dilation = (
        [value, value] if isinstance(value, int) else list(value) for value in (stride, padding, dilation)
    )
    return dict(
        kernel_shape_i=list(weight.type().sizes()[2:]),
        strides_i=stride,
        pads_i=[*padding, *padding],
        dilations_i=dilation,
        group_i=groups,
        offset_group_i=deform_groups,
    )
