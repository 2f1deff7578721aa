"""Convolutions in the memory format that suits them."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from torch import nn

from mmsharp.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Holds the weights of 2-d convolutions with their channels last in memory while the model trains.

    The numbers are the same up to rounding; torch then computes convolutions, and what follows them, in that format,
    which is faster where kernels for it exist: in half precision on GPUs with tensor cores, and on CPUs. A network
    whose own code asks for the usual format (a ``view`` of a feature map) says so in its first forward pass; take the
    hook away from it.

    Switched on by one line: ``default_hooks = dict(memory_format=dict(type='mmsharp.ChannelsLastHook'))``. Weights keep
    the format in pruning and slimming; checkpoints load with and without the hook.
    """

    priority = 'LOW'
    """After the hooks that give the model other weights."""

    def before_train(self, runner: Any) -> None:
        """Change the format of the weights in place, after a checkpoint was loaded."""
        channels_last(runner.model)


def channels_last(model: nn.Module) -> None:
    """Give every parameter and buffer of four dimensions the format ``torch.channels_last``, in place.

    Gradients and optimizer states follow by themselves: torch allocates them in the format of their parameter.

    Example:
        >>> model = nn.Conv2d(3, 8, 3)
        >>> channels_last(model)
        >>> model.weight.is_contiguous(memory_format=torch.channels_last)
        True
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
