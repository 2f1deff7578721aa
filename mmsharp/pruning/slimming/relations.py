"""What a recipe has to keep together: the relations between axes that the table of prunable layers states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.layers import axis_size, layer_kind
from mmsharp.pruning.layers.kinds import Axis
from mmsharp.pruning.slimming.recipe import LayerRecipe, Recipe

Layers = Mapping[nn.Module, LayerRecipe]
SHOWN = 6


def check_relations(model: nn.Module, recipe: Recipe) -> None:
    """Whether the axes that depend on each other keep channels that fit, by ``runs_of``, ``tiles_of`` and ``same_as``.

    The recipe's layers and sizes have been found in the model. Whether one layer gives what the next one reads is not
    checked: only a forward could tell.

    Raises:
        MmsharpError: They do not; the message names module, axis, what was expected and found.

    Example:
        >>> from mmsharp.pruning import AxisRecipe
        >>> groups = LayerRecipe('GroupNorm', {'groups': AxisRecipe(2, (1,))})
        >>> check_relations(nn.Sequential(nn.GroupNorm(2, 4)), Recipe({'0': groups}))
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: recipe module '0', axis 'out': expected kept [2, 3], by its 'groups', found all 4
    """
    layers = {model.get_submodule(path): layer for path, layer in recipe.modules.items()}
    for path, module in model.named_modules():
        if any(inner in layers for inner in module.modules()):
            kind = layer_kind(module)
            for name, axis in {} if kind is None else kind.axes.items():
                _check_axis(layers, f'recipe module {path!r}, axis {name!r}', module, name, axis)


def _check_axis(layers: Layers, what: str, module: nn.Module, name: str, axis: Axis) -> None:
    within, other = axis.same_as or ('', axis.runs_of or axis.tiles_of)
    if other is None and axis.parts is None:
        return
    size = axis_size(module, axis)
    found = _kept(layers, module, name, size)
    if axis.parts is not None:
        parts = int(getattr(module, axis.parts))
        counts = [sum(index * parts // size == part for index in found) for part in range(parts)]
        if len(set(counts)) > 1:
            raise MmsharpError(f'{what}: expected as many kept in each of {parts} parts, found {counts}')
    if other is None:
        return
    inner = dict(module.named_modules()).get(within)
    kind = None if inner is None else layer_kind(inner)
    other_axis = None if kind is None else kind.axis(other)
    by = repr(other) + (f' of {within!r}' if within else '')
    expected = list(range(size))
    if inner is not None and other_axis is not None:
        others = axis_size(inner, other_axis)
        kept = set(_kept(layers, inner, other, others))
        if size % others == 0:  # otherwise the relation does not hold in this model, and the axis stays whole
            length = size // others if axis.runs_of else 1
            expected = [index for index in expected if index // length % others in kept]
    if list(found) != expected:
        raise MmsharpError(f'{what}: expected kept {_shown(expected, size)}, by its {by}, found {_shown(found, size)}')


def _kept(layers: Layers, module: nn.Module, name: str, size: int) -> Sequence[int]:
    layer = layers.get(module)
    return range(size) if layer is None or name not in layer.axes else layer.axes[name].kept


def _shown(kept: Sequence[int], size: int) -> str:
    if len(kept) == size:
        return f'all {size}'
    return f'{list(kept)}' if len(kept) <= SHOWN else f'{len(kept)} of {size}, {str(list(kept[:SHOWN]))[:-1]}, ...]'
