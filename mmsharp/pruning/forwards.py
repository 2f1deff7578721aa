"""How a model is run to be looked at, and the tensors that it gives."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmsharp.pruning.cached_biases import cached_biases

Forward = Callable[[nn.Module], Any]
"""Runs a model on fixed inputs and hands back whatever it gives."""


def tensor_forward(inputs: Any, data_samples: Any = None) -> Forward:
    """A forward without post-processing: ``model(inputs, data_samples, mode='tensor')``, else ``model(inputs)``.

    The first form is for MMEngine's models, told by the ``mode`` that their forward takes. Inputs follow the model to
    its device. Whether gradients are recorded is the caller's decision.

    Args:
        inputs: What the model's forward takes first: a tensor, or a list or dict of tensors.
        data_samples: What MMEngine's models take beside it.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> tensor_forward(torch.ones(1, 2))(nn.Flatten()).shape
        torch.Size([1, 2])
    """

    def forward(model: nn.Module) -> Any:
        parameter = next(model.parameters(), None)
        moved = inputs if parameter is None else _to_device(inputs, parameter.device)
        if 'mode' in inspect.signature(model.forward).parameters:
            return model(moved, data_samples, mode='tensor')
        return model(moved)

    return forward


def _to_device(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _to_device(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, '_fields'):
        return type(value)(_to_device(item, device) for item in value)
    return value


def output_tensors(output: Any) -> list[Tensor]:
    """All tensors inside a model's output: nested sequences, mappings and MMEngine's data elements, in order.

    Example:
        >>> import torch
        >>> len(output_tensors({'a': [torch.ones(1), None], 'b': (torch.ones(2),)}))
        2
    """
    found: list[Tensor] = []
    seen: set[int] = set()

    def visit(value: Any) -> None:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, Mapping):
            for item in value.values():
                visit(item)
        elif isinstance(value, (list, tuple, set)):
            for item in value:
                visit(item)
        elif hasattr(value, '__dict__') and not isinstance(value, (type, nn.Module)) and id(value) not in seen:
            seen.add(id(value))
            visit(vars(value))

    visit(output)
    return found


@contextmanager
def looked_at(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, for a look at the model that leaves it bitwise as it was.

    Training flags, buffers and the random states of the CPU and of the model's devices come back, also after an error.

    Example:
        >>> from torch import nn
        >>> model = nn.Dropout()
        >>> with looked_at(model):
        ...     print(model.training)
        False
        >>> model.training
        True
    """
    training = {module: module.training for module in model.modules()}
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    devices = sorted({tensor.device.index or 0 for tensor in model.parameters() if tensor.device.type == 'cuda'})
    try:
        for module in training:
            module.training = False  # not .eval(): some models override it, and could not be put back
        with torch.random.fork_rng(devices), torch.no_grad(), cached_biases(model):
            yield
    finally:
        for module, flag in training.items():
            module.training = flag
        with torch.no_grad():
            for buffer, saved in buffers:
                buffer.copy_(saved)


@contextmanager
def full_float32() -> Iterator[None]:
    """Inside, convolutions and matrix products of float32 keep their 23 bits of mantissa, outside autocast too.

    Newer GPUs otherwise round their inputs to 10 bits (TF32, on by default for convolutions), which moves outputs by
    1e-3 depending on how sums are split: more than what two networks that are to compute the same may differ by.

    Example:
        >>> import torch
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
