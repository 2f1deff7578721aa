"""Statistics of BatchNorm taken anew, for a network that has changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn


@torch.no_grad()
def reestimate_statistics(model: nn.Module, forwards: Sequence[Callable[[nn.Module], Any]]) -> None:
    """Replace running means and variances by their averages over batches; nothing happens without a batch.

    Taken anew are the layers that are in training mode, in which they normalise with the batch; those that training
    holds (``norm_eval``) stay. Everything else runs in evaluation mode. Modes come back, also after an error.

    Args:
        model: The model, in training mode.
        forwards: One call per batch.

    Example:
        >>> norm = nn.BatchNorm1d(1)
        >>> reestimate_statistics(
        ...     norm, [lambda m: m(torch.tensor([[1.0], [3.0]])), lambda m: m(torch.full((2, 1), 4.0))]
        ... )
        >>> norm.running_mean, norm.momentum
        (tensor([3.]), 0.1)
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training and module.track_running_stats
    ]
    if not forwards or not norms:
        return
    momenta = [module.momentum for module in norms]
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False
        for module in norms:
            module.training, module.momentum = True, None  # torch's cumulative average
            module.reset_running_stats()
        for forward in forwards:
            forward(model)
    finally:
        for module, mode in modes.items():
            module.training = mode
        for module, momentum in zip(norms, momenta):
            module.momentum = momentum
