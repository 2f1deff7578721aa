"""The gradients of a step whose micro-batches are not all through, so that a resumed run goes on in its middle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dist import get_world_size
from torch import Tensor

from mmsharp.errors import MmsharpError


def gradients_so_far(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Copies of ``.grad`` by the parameter's number over all groups; none in a run of several processes.

    There each process has summed up gradients of its own, and a checkpoint holds what the first one knows.

    Example:
        >>> layer = torch.nn.Linear(1, 1)
        >>> optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        >>> layer(torch.ones(1, 1)).sum().backward()
        >>> gradients_so_far(optimizer)
        {'0': tensor([[1.]]), '1': tensor([1.])}
    """
    if get_world_size() > 1:
        return {}
    parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
    return {str(place): p.grad.detach().clone() for place, p in enumerate(parameters) if p.grad is not None}


def go_on_with(optimizer: torch.optim.Optimizer, gradients: Mapping[str, Any]) -> None:
    """Put the gradients back that :func:`gradients_so_far` has copied.

    Raises:
        MmsharpError: They are of other parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
    for place, gradient in gradients.items():
        parameter = parameters[int(place)] if place.isdigit() and int(place) < len(parameters) else None
        if parameter is None or not isinstance(gradient, Tensor) or gradient.shape != parameter.shape:
            raise MmsharpError(
                f'the checkpoint holds a gradient of parameter {place!r} of an unfinished step, which does not fit '
                f'{type(optimizer).__name__}; resume with the config that it was written with'
            )
        parameter.grad = gradient.to(parameter, copy=True)
