"""Rebuild a slim model from the dense one and a recipe, by index selection alone.

Parameters stay the objects they are: only what they hold shrinks. So the optimizer's parameter groups, ties between
layers and anything else that points at a parameter stay valid, and only the optimizer's state has to follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError, shown
from mmsharp.pruning.layers import axis_size, layer_kind, layer_tensors, set_axis_size
from mmsharp.pruning.layers.kinds import Axis
from mmsharp.pruning.slimming.recipe import AxisRecipe, Recipe
from mmsharp.pruning.slimming.relations import check_relations

Kept = list[tuple[int, Tensor]]
"""Each dimension of a tensor that shrinks, with its kept indices (int64, CPU)."""


def apply_recipe(model: nn.Module, recipe: Recipe, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Shrink a model in place, and what its optimizer remembers. Everything is checked before anything is touched.

    Gradients shrink with their parameters, so that a sum over micro-batches goes on; momentum and moments keep the kept
    indices, and numbers such as step counts stay.

    Args:
        model: The dense model that the recipe was written for, or one of the same architecture.
        recipe: From :meth:`ChannelMasks.recipe` or a file.
        optimizer: Holds (some of) the model's parameters, by identity.

    Raises:
        MmsharpError: A layer is missing or of another kind, a size is another (also: the model is slim already),
            axes of a layer that depend on each other do not fit (see :mod:`mmsharp.pruning.slimming.relations`), a
            tensor that shrinks is also that of a module which the recipe does not cut alike, or state of the optimizer
            has neither its parameter's shape nor a single element. Model and optimizer are as before.

    Example:
        >>> from mmsharp.pruning import AxisRecipe, LayerRecipe, Recipe
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()
        >>> kept = AxisRecipe(3, (0, 2))
        >>> recipe = Recipe({'0': LayerRecipe('Linear', {'out': kept}), '1': LayerRecipe('Linear', {'in': kept})})
        >>> apply_recipe(model, recipe, optimizer)
        >>> model
        Sequential(
          (0): Linear(in_features=2, out_features=2, bias=True)
          (1): Linear(in_features=2, out_features=1, bias=True)
        )
        >>> optimizer.state[model[0].weight]['momentum_buffer'].shape
        torch.Size([2, 2])
    """
    selections: dict[Tensor, dict[int, AxisRecipe]] = {}
    cuts: dict[Tensor, list[_Cut]] = {}
    sizes: list[tuple[nn.Module, Axis, int]] = []
    modules = dict(model.named_modules(remove_duplicate=False))
    for path, layer in recipe.modules.items():
        module = modules.get(path)
        kind = None if module is None else layer_kind(module)
        if module is None or kind is None or kind.name != layer.kind:
            found = 'no such module' if module is None else f'a {type(module).__name__}'
            raise MmsharpError(f'recipe module {shown(path)}: expected a {layer.kind}, found {found}')
        for axis_name, wanted in layer.axes.items():
            axis = kind.axis(axis_name)
            if axis is None:
                raise MmsharpError(
                    f'recipe module {shown(path)}: expected an axis {shown(axis_name)}, found {", ".join(kind.axes)}'
                )
            for what, size in [
                *((name, axis_size(module, axis)) for name in axis.sizes[:1]),
                *((name, tensor.shape[dim]) for name, (tensor, dim) in layer_tensors(module, axis).items()),
            ]:
                if size != wanted.size:
                    already = ' (the model is slim already)' if size == len(wanted.kept) else ''
                    raise MmsharpError(
                        f'recipe module {shown(path)}: expected {what} of {wanted.size}, found {size}{already}'
                    )
            for name, (tensor, dim) in layer_tensors(module, axis).items():
                earlier = cuts.setdefault(tensor, [])
                if selections.setdefault(tensor, {}).setdefault(dim, wanted) != wanted:
                    raise MmsharpError(
                        f'recipe module {shown(path)}: its {name!r} is also {earlier[0].name!r} of module '
                        f'{earlier[0].path!r}, which keeps other channels of it; let both keep the same'
                    )
                earlier.append(_Cut(path, module, name, dim))
            sizes.append((module, axis, len(wanted.kept)))
    check_relations(model, recipe)
    _check_shared(modules, cuts)
    forwards = _slim_forwards(modules, recipe)
    kept = {
        tensor: [(dim, torch.tensor(axis.kept, dtype=torch.int64)) for dim, axis in sorted(dims.items())]
        for tensor, dims in selections.items()
    }
    followers = [] if optimizer is None else _followers(optimizer, kept)
    for tensor, indices in kept.items():
        _shrink_(tensor, indices)
    for module, axis, size in sizes:
        set_axis_size(module, axis, size)
    for module, forward in forwards:
        module.forward = forward
    for state, name, indices in followers:
        state[name] = select(state[name], indices)


class _Cut(NamedTuple):
    """A tensor shrinks along a dimension, by the axis of a module that has it under this name."""

    path: str
    module: nn.Module
    name: str
    dim: int


def _check_shared(modules: dict[str, nn.Module], cuts: Mapping[Tensor, Sequence[_Cut]]) -> None:
    """Whether each module that has a shrinking tensor is cut along all of the tensor's shrinking dimensions."""
    for path, module in modules.items():
        for place in (module._parameters, module._buffers, module.__dict__):
            for name, tensor in place.items():
                if not isinstance(tensor, Tensor) or tensor not in cuts:
                    continue
                own = {cut.dim for cut in cuts[tensor] if cut.module is module and cut.name == name}
                for cut in cuts[tensor]:
                    if cut.dim not in own:
                        raise MmsharpError(
                            f'recipe module {cut.path!r}: its {cut.name!r} is also {name!r} of module {path!r}, a '
                            f'{type(module).__name__}, which the recipe does not cut alike; have both in the recipe, '
                            'as tools/slim.py writes it, or give them parameters of their own'
                        )


def _slim_forwards(modules: dict[str, nn.Module], recipe: Recipe) -> list[tuple[nn.Module, Callable[..., Any]]]:
    """The forwards of modules that have one for when they, or a layer inside of them, have shrunk."""
    found: list[tuple[nn.Module, Callable[..., Any]]] = []
    touched = {
        '.'.join(parts[:end]) for path in recipe.modules for parts in [path.split('.')] for end in range(len(parts) + 1)
    }
    for path in sorted(touched & modules.keys()):
        kind = layer_kind(modules[path])
        if kind is None or kind.slim_forward is None:
            continue
        if kind.dense_axis is None:
            found.append((modules[path], partial(kind.slim_forward, modules[path])))
        elif path in recipe.modules and kind.dense_axis in recipe.modules[path].axes:
            dense = recipe.modules[path].axes[kind.dense_axis].size
            found.append((modules[path], partial(kind.slim_forward, modules[path], dense)))
    return found


def _shrink_(tensor: Tensor, kept: Kept) -> None:
    selected = select(tensor.data, kept)
    gradient = None if tensor.grad is None else select(tensor.grad, kept)
    tensor.grad = None
    if tensor.requires_grad:
        # autograd remembers the shape of a leaf in the node that accumulates its gradient, and drops that node only
        # when the type changes; without this detour a graph that still lives would make the next backward fail
        other = torch.float64 if tensor.dtype != torch.float64 else torch.float32
        tensor.data = torch.empty(0, dtype=other, device=tensor.device)
    tensor.data = selected
    tensor.grad = gradient


def select(tensor: Tensor, kept: Kept) -> Tensor:
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


def check_optimizer(optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor]) -> None:
    """Refuse an optimizer whose state cannot follow parameters that shrink, as far as it has a state by now.

    Args:
        optimizer: That of the training.
        parameters: Those that may shrink.

    Raises:
        MmsharpError: It keeps something else than numbers and tensors of the parameters' shapes.

    Example:
        >>> parameter = torch.nn.Parameter(torch.ones(2, 2))
        >>> optimizer = torch.optim.Adafactor([parameter])
        >>> parameter.sum().backward()
        >>> optimizer.step()
        >>> check_optimizer(optimizer, [parameter])
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: Adafactor: state 'row_var' of shape (2, 1) is neither a number nor shaped ...
    """
    for parameter in parameters:
        for name, value in optimizer.state.get(parameter, {}).items():
            _follows(optimizer, parameter, name, value)


def _followers(optimizer: torch.optim.Optimizer, kept: dict[Tensor, Kept]) -> list[tuple[dict[str, Any], str, Kept]]:
    """The optimizer's tensors that shrink with a parameter: where they are kept, and which indices remain."""
    found = []
    for parameter, indices in kept.items():
        state = optimizer.state.get(parameter, {})
        for name, value in state.items():
            if _follows(optimizer, parameter, name, value):
                found.append((state, name, indices))
    return found


def _follows(optimizer: torch.optim.Optimizer, parameter: Tensor, name: str, value: Any) -> bool:
    """Whether an entry of the optimizer's state shrinks with its parameter; numbers stay as they are."""
    if isinstance(value, Tensor):
        if value.shape != parameter.shape and value.numel() != 1:
            raise MmsharpError(
                f'{type(optimizer).__name__}: state {name!r} of shape {tuple(value.shape)} is neither a number '
                f'nor shaped like its parameter, {tuple(parameter.shape)}, and cannot follow it when it '
                'shrinks; use another optimizer, or prune with slim=False and run tools/slim.py'
            )
        return value.shape == parameter.shape
    if isinstance(value, (list, tuple, dict)):
        raise MmsharpError(
            f'{type(optimizer).__name__}: state {name!r} is a {type(value).__name__}; only tensors and numbers '
            'can follow a parameter that shrinks; use another optimizer, or prune with slim=False and run '
            'tools/slim.py'
        )
    return False
