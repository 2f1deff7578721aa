"""Run a model in the precision that a comparison needs, whatever its code, its user or its device would rather have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mmsharp.pruning.forwards.custom_functions import custom_functions

CHOOSE_IN_FLOAT32 = ('NMSop', 'SoftNMSop')
"""Kernels of mmcv that have no float64; they choose boxes and pass no numbers on."""


@contextmanager
def full_float32() -> Iterator[None]:
    """Inside, convolutions and matrix products of float32 keep their 23 bits of mantissa, outside autocast too.

    Newer GPUs otherwise round their inputs to 10 bits (TF32, on by default for convolutions), which moves outputs by
    1e-3 depending on how sums are split: more than what two networks that are to compute the same may differ by.

    Example:
        >>> with full_float32():
        ...     print(torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
        False False
    """
    convolution, product = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        with torch.autocast('cuda', enabled=False), torch.autocast('cpu', enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolution, product


@contextmanager
def float64_throughout() -> Iterator[None]:
    """Inside, what code makes without naming a type is float64, and so is what it names float32.

    For a model whose weights have been turned to float64: positions, anchors and casts of its own would otherwise meet
    them in float32, which products refuse.

    Example:
        >>> with float64_throughout():
        ...     print(torch.zeros(1).dtype, torch.arange(2, dtype=torch.float32).dtype, torch.ones(1).float().dtype)
        torch.float64 torch.float64 torch.float64
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Float32IsFloat64(), custom_functions(_choosing_in_float32):
            yield
    finally:
        torch.set_default_dtype(before)


class _Float32IsFloat64(TorchFunctionMode):
    """Reads every float32 that is handed to a function as float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.float:
            func = Tensor.double
        return func(*map(_wider, args), **{name: _wider(value) for name, value in (kwargs or {}).items()})


def _wider(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


def _choosing_in_float32(kind: type, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kind.__name__ in CHOOSE_IN_FLOAT32:
        # `.to`, not `.float`, inside which float32 is float64
        with torch._C.DisableTorchFunction():
            args = tuple(value.to(torch.float32) if isinstance(value, Tensor) else value for value in args)
            return call(*args, **kwargs)
    return call(*args, **kwargs)
