"""Rebuild a slim model from the dense one and a recipe, by index selection alone.

Parameters stay the objects they are: only what they hold shrinks. So the optimizer's parameter groups, ties between
layers and anything else that points at a parameter stay valid, and only the optimizer's state has to follow
(:func:`slim_optimizer_state_`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.layers import axis_size, layer_kind, layer_tensors
from mmsharp.pruning.recipe import AxisRecipe, Recipe

Changes = dict[nn.Parameter, list[tuple[int, Tensor]]]
"""Per parameter that shrank: each dimension that did, with the kept indices (int64, CPU)."""


def apply_recipe(model: nn.Module, recipe: Recipe) -> Changes:
    """Shrink a model in place. Everything is checked before anything is touched.

    Gradients of the parameters that shrink are cleared.

    Args:
        model: The dense model that the recipe was written for, or one of the same architecture.
        recipe: From :meth:`ChannelMasks.recipe` or a file.

    Returns:
        What changed, for :func:`slim_optimizer_state_`.

    Raises:
        MmsharpError: A layer is missing or of another kind, or a size is another (also: the model is slim already);
            the model is as before.

    Example:
        >>> from mmsharp.pruning import AxisRecipe, LayerRecipe, Recipe
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> kept = AxisRecipe(3, (0, 2))
        >>> recipe = Recipe({'0': LayerRecipe('Linear', {'out': kept}), '1': LayerRecipe('Linear', {'in': kept})})
        >>> changes = apply_recipe(model, recipe)
        >>> model
        Sequential(
          (0): Linear(in_features=2, out_features=2, bias=True)
          (1): Linear(in_features=2, out_features=1, bias=True)
        )
    """
    selections: dict[Tensor, dict[int, AxisRecipe]] = {}
    attributes: list[tuple[nn.Module, str, int]] = []
    modules = dict(model.named_modules(remove_duplicate=False))
    for path, layer in recipe.modules.items():
        module = modules.get(path)
        kind = None if module is None else layer_kind(module)
        if module is None or kind is None or kind.name != layer.kind:
            found = 'no such module' if module is None else f'a {type(module).__name__}'
            raise MmsharpError(f'recipe module {path!r}: expected a {layer.kind}, found {found}')
        for axis_name, wanted in layer.axes.items():
            axis = kind.axis(axis_name)
            assert axis is not None
            for what, size in [
                (axis.sizes[0], axis_size(module, axis)),
                *((name, tensor.shape[dim]) for name, (tensor, dim) in layer_tensors(module, axis).items()),
            ]:
                if size != wanted.size:
                    already = ' (the model is slim already)' if size == len(wanted.kept) else ''
                    raise MmsharpError(
                        f'recipe module {path!r}: expected {what} of {wanted.size}, found {size}{already}'
                    )
            for tensor, dim in layer_tensors(module, axis).values():
                other = selections.setdefault(tensor, {}).setdefault(dim, wanted)
                if other != wanted:
                    raise MmsharpError(
                        f'recipe module {path!r}: shares a parameter that another module keeps otherwise'
                    )
            attributes += [(module, name, len(wanted.kept)) for name in axis.sizes]
    changes: Changes = {}
    for tensor, dims in selections.items():
        kept = [(dim, torch.tensor(axis.kept, dtype=torch.int64)) for dim, axis in sorted(dims.items())]
        _shrink_(tensor, kept)
        if isinstance(tensor, nn.Parameter):
            changes[tensor] = kept
    for module, name, size in attributes:
        setattr(module, name, size)
    return changes


def _shrink_(tensor: Tensor, kept: list[tuple[int, Tensor]]) -> None:
    selected = select(tensor.data, kept)
    tensor.grad = None
    if tensor.requires_grad:
        # autograd remembers the shape of a leaf in the node that accumulates its gradient, and drops that node only
        # when the type changes; without this detour a graph that still lives would make the next backward fail
        other = torch.float64 if tensor.dtype != torch.float64 else torch.float32
        tensor.data = torch.empty(0, dtype=other, device=tensor.device)
    tensor.data = selected


def select(tensor: Tensor, kept: list[tuple[int, Tensor]]) -> Tensor:
    """The kept indices of a tensor along each dimension, contiguous in the tensor's own memory format.

    Example:
        >>> select(torch.arange(6).reshape(2, 3), [(1, torch.tensor([0, 2]))]).tolist()
        [[0, 2], [3, 5]]
    """
    selected = tensor
    for dim, indices in kept:
        selected = selected.index_select(dim, indices.to(tensor.device))
    channels_last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    if channels_last and not tensor.is_contiguous():
        return selected.contiguous(memory_format=torch.channels_last)
    return selected.contiguous()


def slim_optimizer_state_(optimizer: torch.optim.Optimizer, changes: Changes) -> None:
    """Let the optimizer's state follow its parameters: momentum and moments keep the kept indices, scalars stay.

    Args:
        optimizer: Holds (some of) the parameters, by identity.
        changes: What :func:`apply_recipe` gave back, for the same parameters.

    Raises:
        MmsharpError: A state tensor has neither the parameter's old shape nor a single element; nothing was changed.

    Example:
        >>> from mmsharp.pruning import AxisRecipe, LayerRecipe, Recipe
        >>> model = nn.Linear(1, 3)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> model(torch.ones(1, 1)).sum().backward()
        >>> optimizer.step()
        >>> changes = apply_recipe(model, Recipe({'': LayerRecipe('Linear', {'out': AxisRecipe(3, (0, 2))})}))
        >>> slim_optimizer_state_(optimizer, changes)
        >>> optimizer.state[model.weight]['momentum_buffer'].shape
        torch.Size([2, 1])
    """
    planned: list[tuple[dict[str, Any], str, Tensor]] = []
    for parameter, kept in changes.items():
        state = optimizer.state.get(parameter, {})
        for name, value in state.items():
            if not isinstance(value, Tensor):
                if isinstance(value, (list, tuple, dict)):
                    raise MmsharpError(
                        f'{type(optimizer).__name__}: state {name!r} is a {type(value).__name__}; only tensors and '
                        'numbers can follow a parameter that shrinks'
                    )
                continue
            if value.numel() == 1 and parameter.numel() != 1:
                continue
            if not _has_old_shape(value, parameter, kept):
                raise MmsharpError(
                    f'{type(optimizer).__name__}: state {name!r} of shape {tuple(value.shape)} is neither a number nor '
                    f'shaped like its parameter (now {tuple(parameter.shape)}); it cannot follow it'
                )
            planned.append((state, name, select(value, kept)))
    for state, name, value in planned:
        state[name] = value


def _has_old_shape(value: Tensor, parameter: Tensor, kept: list[tuple[int, Tensor]]) -> bool:
    shrunk = {dim: indices for dim, indices in kept}
    return value.dim() == parameter.dim() and all(
        size > int(shrunk[dim][-1]) and size > len(shrunk[dim]) if dim in shrunk else size == parameter.shape[dim]
        for dim, size in enumerate(value.shape)
    )
