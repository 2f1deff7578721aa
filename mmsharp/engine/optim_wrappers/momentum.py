"""The momentum that an optimizer keeps, for ascents that follow it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.sharpness import AscentParameter

MOMENTA = ('momentum_buffer', 'exp_avg')
"""What optimizers call their momentum: SGD and RMSprop, Adam and its kin."""


def momentum_of(optimizer: torch.optim.Optimizer, tensor: Tensor) -> Tensor | None:
    """The momentum of a parameter, the optimizer's own tensor; ``None`` where there is none, or none yet.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(1))
        >>> optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
        >>> momentum_of(optimizer, weight) is None
        True
        >>> weight.grad = torch.full((1,), 2.0)
        >>> optimizer.step()
        >>> momentum_of(optimizer, weight)
        tensor([2.])
    """
    state = optimizer.state.get(tensor, {})
    return next((state[name] for name in MOMENTA if isinstance(state.get(name), Tensor)), None)


def refuse_without_momentum(
    owner: str, optimizer: torch.optim.Optimizer, parameters: Sequence[AscentParameter]
) -> None:
    """Wait for momentum that is yet to come, and refuse an optimizer that keeps none.

    Args:
        owner: Who follows the momentum, for the message.
        optimizer: By its settings or, where they do not say, by its state after the first step.
        parameters: All that the ascent may move.

    Raises:
        MmsharpError: Naming the optimizer.
    """
    keeps_none = all('momentum' in group and not group['momentum'] for group in optimizer.param_groups)
    has_stepped = any(optimizer.state.get(parameter.tensor) for parameter in parameters)
    found = any(momentum_of(optimizer, parameter.tensor) is not None for parameter in parameters)
    if keeps_none or (has_stepped and not found):
        raise MmsharpError(
            f'{owner} follows the momentum of the optimizer, and {type(optimizer).__name__} keeps none (looked for '
            f'{" and ".join(MOMENTA)}); give it momentum, or take another ascent'
        )
