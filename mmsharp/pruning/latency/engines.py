"""What runs layers and networks so that they can be timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmsharp.pruning.forwards import Forward


class Engine(Protocol):
    """Runs layers and whole networks on a device."""

    def layer(self, module: nn.Module, inputs: Tensor) -> Callable[[], Any]:
        """One call of a layer alone; returns when it is finished."""

    def network(self, model: nn.Module, forward: Forward) -> Callable[[], Any]:
        """One forward of a whole network, which stays in evaluation mode; returns when it is finished."""


class PyTorchEngine:
    """PyTorch's eager mode, on the device that the model is on.

    Example:
        >>> PyTorchEngine().layer(nn.Linear(2, 3), torch.zeros(1, 2))().shape
        torch.Size([1, 3])
    """

    def layer(self, module: nn.Module, inputs: Tensor) -> Callable[[], Any]:
        """One call of a layer alone."""
        return _finished(inputs.device, lambda: module(inputs))

    def network(self, model: nn.Module, forward: Forward) -> Callable[[], Any]:
        """One forward."""
        for module in model.modules():
            module.training = False
        return _finished(next(model.parameters()).device, lambda: forward(model))


def _finished(device: torch.device, call: Callable[[], Any]) -> Callable[[], Any]:
    @torch.no_grad()
    def run() -> Any:
        result = call()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        return result

    return run
