"""The gradients that an optimizer steps with, also where it is the one that unscales them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def gradients_of_step(optimizer: torch.optim.Optimizer) -> Iterator[bool]:
    """Inside a hook before a step, ``.grad`` holds ``g / scale``, and the value is whether the step will be taken.

    A gradient scaler hands fused optimizers gradients that are still scaled, with the scale and whether they have
    overflowed as attributes ``grad_scale`` and ``found_inf``; others get gradients that are unscaled, or no step.

    Example:
        >>> parameter = torch.nn.Parameter(torch.zeros(1))
        >>> parameter.grad = torch.full((1,), 8.0)
        >>> optimizer = torch.optim.SGD([parameter], lr=1.0)
        >>> optimizer.grad_scale, optimizer.found_inf = torch.tensor(4.0), torch.tensor(0.0)
        >>> with gradients_of_step(optimizer) as steps:
        ...     steps, parameter.grad.item()
        (True, 2.0)
        >>> parameter.grad.item()
        8.0
    """
    overflow, scale = getattr(optimizer, 'found_inf', None), getattr(optimizer, 'grad_scale', None)
    if overflow is not None and bool(overflow):
        yield False
        return
    held = [] if scale is None else [p for group in optimizer.param_groups for p in group['params']]
    scaled = [(parameter, parameter.grad) for parameter in held if parameter.grad is not None]
    try:
        for parameter, gradient in scaled:
            assert scale is not None
            # A scale of 65536 is infinite in float16.
            parameter.grad = (gradient.float() / scale.to(gradient.device)).to(gradient.dtype)
        yield True
    finally:
        for parameter, gradient in scaled:
            parameter.grad = gradient
