"""What a step is to do: plain, with an ascent along a first gradient, or displaced along the momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmsharp.engine.optim_wrappers.momentum import momentum_of, refuse_without_momentum
from mmsharp.sharpness import Ascent, AscentParameter, AscentReading


class Plan(NamedTuple):
    """What the step at hand does.

    Args:
        chosen: The parameters whose ascent is taken; none in a plain step.
        two_passes: Whether the ascent follows a gradient, which the first of two passes gives.
        reading: What the ascent saw, where it was taken before the forward pass.
    """

    chosen: list[AscentParameter]
    two_passes: bool
    reading: AscentReading | None = None

    @property
    def tensors(self) -> list[nn.Parameter]:
        """The tensors of the chosen parameters."""
        return [parameter.tensor for parameter in self.chosen]


def plan_step(
    ascent: Ascent,
    parameters: list[AscentParameter],
    chosen: list[AscentParameter],
    optimizer: torch.optim.Optimizer,
    masks: Mapping[nn.Parameter, Tensor],
) -> tuple[Plan, list[Tensor]]:
    """Plan a step whose policy has chosen ``chosen`` of ``parameters``; those without momentum do not follow it.

    Returns:
        The plan, and ``eps`` of each of its parameters where it is known before the forward pass.

    Raises:
        MmsharpError: The ascent follows momentum that the optimizer does not keep.

    Example:
        >>> from mmsharp.sharpness import SAM, select_parameters
        >>> model = nn.Linear(1, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> parameters = select_parameters(model)
        >>> plan, known = plan_step(SAM(), parameters, parameters, optimizer, {})
        >>> plan.two_passes, len(plan.chosen), known
        (True, 2, [])
    """
    if ascent.direction == 'gradient' or not chosen:
        return Plan(chosen, two_passes=bool(chosen)), []
    momenta = [momentum_of(optimizer, parameter.tensor) for parameter in chosen]
    moved = [parameter for parameter, momentum in zip(chosen, momenta) if momentum is not None]
    if not moved:
        refuse_without_momentum(type(ascent).__name__, optimizer, parameters)
        return Plan([], two_passes=False), []
    perturbations = [momentum.clone() for momentum in momenta if momentum is not None]
    reading = ascent.perturb_(moved, perturbations, [masks.get(parameter.tensor) for parameter in moved])
    return Plan(moved, two_passes=False, reading=reading), perturbations
