"""Size, work and time of a model."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
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
    with looked_at(model), _frozen(model), plain_attention(), FlopCounterMode(display=False) as counter:
        forward(model)
    return int(counter.get_total_flops()) // 2


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention multiplies its matrices one by one: the counter does not know all of the fused kernels."""
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


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
    return measure_latencies([(model, forward)], repeats, warmup)[0]


def measure_latencies(
    models: Sequence[tuple[nn.Module, Forward]], repeats: int = 30, warmup: int = 5, limit: float = math.inf
) -> list[float]:
    """:func:`measure_latency` of several models in turns, so that whatever else the machine does meets them alike.

    Args:
        models: Models with their forwards; left bitwise as they were.
        repeats: Timed rounds over all models, at least 1.
        warmup: Rounds before them.
        limit: Seconds after which no further round begins, once three have been timed.

    Raises:
        MmsharpError: As :func:`measure_latency`.

    Example:
        >>> from mmsharp.pruning import tensor_forward
        >>> forward = tensor_forward(torch.zeros(1, 512))
        >>> small, large = measure_latencies([(nn.Linear(512, 8), forward), (nn.Linear(512, 8192), forward)])
        >>> small < large
        True
    """
    with ExitStack() as stack:
        for model, _ in models:
            stack.enter_context(looked_at(model))
        return time_in_turns([_waited_for(model, forward) for model, forward in models], repeats, warmup, limit)


def time_in_turns(
    calls: Sequence[Callable[[], Any]],
    repeats: int,
    warmup: int = 3,
    limit: float = math.inf,
    statistic: Callable[[Sequence[float]], float] = statistics.median,
) -> list[float]:
    """Seconds of each call; every round makes all of them once, so that noise meets them alike.

    Args:
        calls: Each returns when its work is done.
        repeats: Timed rounds, at least 1.
        warmup: Rounds before them.
        limit: Seconds after which no further round begins, once three have been timed.
        statistic: Of the timed rounds.

    Raises:
        MmsharpError: ``repeats`` is below 1 or ``warmup`` below 0.

    Example:
        >>> short, long = time_in_turns([lambda: None, lambda: time.sleep(0.001)], repeats=3)
        >>> short < 0.001 <= long
        True
    """
    if repeats < 1 or warmup < 0:
        raise MmsharpError(f'repeats={repeats}, warmup={warmup}; expected at least 1 and 0')
    seconds: list[list[float]] = [[] for _ in calls]
    left = limit
    for number in range(warmup + repeats):
        if number >= warmup + 3 and left < 0:
            break
        for taken, call in zip(seconds, calls):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
            left -= taken[-1]
    return [statistic(taken[warmup:]) for taken in seconds]


def _waited_for(model: nn.Module, forward: Forward) -> Callable[[], None]:
    def call() -> None:
        forward(model)
        _wait_for(model)

    return call


def _wait_for(model: nn.Module) -> None:
    parameter = next(model.parameters(), None)
    if parameter is not None and parameter.device.type == 'cuda':
        torch.cuda.synchronize(parameter.device)
