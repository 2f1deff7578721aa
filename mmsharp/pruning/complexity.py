"""Size, work and time of a model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmsharp.errors import MmsharpError
from mmsharp.pruning.forwards import Forward, looked_at


def count_parameters(model: nn.Module) -> int:
    """Number of parameter elements, frozen ones too, shared ones once; buffers are not counted.

    Example:
        >>> count_parameters(nn.Linear(3, 2))
        8
    """
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, forward: Forward) -> int:
    """Multiply-accumulates of one forward, over the whole batch that it runs.

    Counted by PyTorch's ``FlopCounterMode``, halved: convolutions and matrix products (attention included). Not
    counted: biases, normalisation, activations, pooling, resizing, and kernels outside of PyTorch (deformable
    convolution, RoIAlign).

    Args:
        model: Left bitwise as it was.
        forward: From :func:`~mmsharp.pruning.tensor_forward`; give it a batch of one for the usual figure.

    Example:
        >>> from mmsharp.pruning import tensor_forward
        >>> count_macs(nn.Linear(3, 2, bias=False), tensor_forward(torch.zeros(1, 3)))
        6
    """
    with looked_at(model), _frozen(model), FlopCounterMode(display=False) as counter:
        forward(model)
    return int(counter.get_total_flops()) // 2


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """No parameter asks for a gradient: the counter would look for the graph of one that is handed to a module."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in trained:
            parameter.requires_grad = False
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad = True


def measure_latency(model: nn.Module, forward: Forward, repeats: int = 30, warmup: int = 5) -> float:
    """Median seconds of one forward in evaluation mode without gradients, on the model's own device.

    Args:
        model: Left bitwise as it was.
        forward: From :func:`~mmsharp.pruning.tensor_forward`.
        repeats: Timed runs, at least 1.
        warmup: Runs before them.

    Raises:
        MmsharpError: ``repeats`` is below 1 or ``warmup`` below 0.

    Example:
        >>> from mmsharp.pruning import tensor_forward
        >>> measure_latency(nn.Linear(3, 2), tensor_forward(torch.zeros(1, 3)), repeats=3) > 0
        True
    """
    if repeats < 1 or warmup < 0:
        raise MmsharpError(f'measure_latency: repeats={repeats}, warmup={warmup}; expected at least 1 and 0')
    parameter = next(model.parameters(), None)
    on_gpu = parameter is not None and parameter.device.type == 'cuda'
    seconds = []
    with looked_at(model):
        for _ in range(warmup + repeats):
            if on_gpu:
                torch.cuda.synchronize()
            start = time.perf_counter()
            forward(model)
            if on_gpu:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[warmup:])
