"""Copies of a model with other numbers in its parameters, at no more memory than these take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from mmsharp.pruning.forwards.model_copies import model_copy
from mmsharp.pruning.slimming.recipe import Recipe
from mmsharp.pruning.slimming.removal import apply_recipe


def slim_copy(model: nn.Module, recipe: Recipe) -> nn.Module:
    """A slim copy of a model; parameters that stay whole share its memory.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> slim_copy(model, Recipe({})).weight.data_ptr() == model.weight.data_ptr()
        True
    """
    slim = _copy_with(model, lambda stored: stored)
    apply_recipe(slim, recipe)
    return slim


def double_copy(model: nn.Module) -> nn.Module:
    """A copy of a model in float64.

    Example:
        >>> double_copy(nn.Linear(1, 1)).weight.dtype
        torch.float64
    """
    return _copy_with(model, lambda stored: stored.double() if stored.is_floating_point() else stored.clone()).double()


def _copy_with(model: nn.Module, change: Callable[[Tensor], Tensor]) -> nn.Module:
    """A copy of a model with other numbers in its parameters, which are not copied before."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(change(parameter.data), parameter.requires_grad)
        for parameter in model.parameters()
        if type(parameter) is nn.Parameter
    }
    return model_copy(model, memo)
