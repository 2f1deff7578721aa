"""By how much does the output change when masked channels are removed? By rounding, if they were coupled as found."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.forwards import Forward, looked_at, output_tensors
from mmsharp.pruning.forwards.decisions import Decisions
from mmsharp.pruning.forwards.few_proposals import few_proposals
from mmsharp.pruning.forwards.model_copies import model_copy
from mmsharp.pruning.forwards.precision import float64_throughout, full_float32
from mmsharp.pruning.slimming.recipe import Recipe
from mmsharp.pruning.slimming.removal import apply_recipe

MASKED_EQUALS_SLIM = 1e-5
"""Largest difference between the masked and the slim network, relative to the output's scale, taken for rounding."""


def slim_difference(masked: nn.Module, recipe: Recipe, forward: Forward) -> float:
    """Largest difference between a masked model and a slim copy of it, relative to the output's scale.

    Copies of both run in evaluation mode and float64, where rounding is no excuse: expect about 1e-14. A model that
    does not run in float64 is compared in full float32 (:func:`~mmsharp.pruning.forwards.precision.full_float32`);
    expect about 1e-6. The slim copy takes the masked one's :class:`~mmsharp.pruning.forwards.decisions.Decisions`: with
    proposals or queries chosen from nearly equal scores, rounding would decide otherwise. What they are taken from is
    compared as outputs are.

    Args:
        masked: Left as it is.
        recipe: What of it stays.
        forward: Runs it, from :func:`~mmsharp.pruning.tensor_forward`.

    Raises:
        MmsharpError: The outputs have no finite numbers or differ in shape, or the model cannot be copied.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> slim_difference(model, Recipe({}), lambda model: model(torch.ones(1, 1)))
        0.0
    """
    try:
        with float64_throughout():
            return _difference(masked, recipe, forward, torch.float64)
    except (RuntimeError, TypeError):  # devices and operators without float64
        return _difference(masked, recipe, forward, torch.float32)


def _difference(masked: nn.Module, recipe: Recipe, forward: Forward, dtype: torch.dtype) -> float:
    outputs, decisions = [], Decisions()
    for is_slim in (False, True):
        model = model_copy(masked)
        if is_slim:
            apply_recipe(model, recipe)
        if dtype == torch.float64:
            model.double()
        recorded = decisions.taken() if is_slim else decisions.recorded()
        with looked_at(model), few_proposals(model), full_float32(), recorded:
            outputs.append([tensor.double() for tensor in output_tensors(forward(model))])
    return max([largest_difference(*outputs), *decisions.differences.values()])


def largest_difference(masked: Sequence[Tensor], slim: Sequence[Tensor]) -> float:
    """Largest difference between two lists of outputs, each tensor's relative to its own largest magnitude.

    Raises:
        MmsharpError: They differ in shape, or hold values that are not finite.

    Example:
        >>> largest_difference([torch.tensor([1.0, 4.0])], [torch.tensor([1.0, 3.0])])
        0.25
    """
    if [tensor.shape for tensor in masked] != [tensor.shape for tensor in slim]:
        raise MmsharpError('the slim model gives outputs of other shapes than the masked one; leave more layers dense')
    largest = 0.0
    for first, second in zip(masked, slim):
        if not first.numel():
            continue
        first, second = first.double(), second.double()
        difference = float((first - second).abs().max() / first.abs().max().clamp(min=1e-12))
        if difference != difference:
            raise MmsharpError('the masked or the slim model gives values that are not finite')
        largest = max(largest, difference)
    return largest
