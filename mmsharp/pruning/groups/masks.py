"""Masks: which channels of each group live, and the zeros that hold the others dead.

A dead channel is zeroed at every member: the filter and bias that make it, its normalisation's weight, bias and
running mean, and the weights of every layer that reads it. The last make a masked model equal its slim copy whatever
lies between (a sigmoid gives 0.5 for a dead channel; nobody reads it).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError, shown
from mmsharp.pruning.groups import ChannelGroup, GroupSet
from mmsharp.pruning.layers import KEPT_STATISTICS, axis_size, layer_kind, layer_tensors, prunable_layers
from mmsharp.pruning.layers.kinds import Axis
from mmsharp.pruning.slimming.recipe import AxisRecipe, LayerRecipe, Recipe


class ChannelMasks:
    """Keep-masks of all groups. Channels leave and never come back.

    Args:
        groups: The groups of the model, from :func:`~mmsharp.pruning.find_groups`.
        keep: One bool tensor of shape ``(channels,)`` per group; ``None`` keeps everything.

    Raises:
        MmsharpError: The masks do not fit the groups, or one keeps nothing.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> groups = find_groups(model, tensor_forward(torch.zeros(1, 2)))
        >>> masks = ChannelMasks(groups, [torch.tensor([True, False, True])])
        >>> masks.apply_(model)
        >>> model[0].bias[1].item(), model[2].weight[0, 1].item()
        (0.0, 0.0)
        >>> masks.recipe(model).to_dict()['modules']['2']
        {'type': 'Linear', 'in': {'size': 3, 'kept': [0, 2]}}
    """

    def __init__(self, groups: GroupSet, keep: Sequence[Tensor] | None = None) -> None:
        self.groups = groups
        sizes = [group.channels for group in groups.groups]
        self._keep = [torch.ones(size, dtype=torch.bool) for size in sizes]
        self._dead: dict[tuple[str, str], Tensor] | None = None
        self._dead_on: dict[tuple[str, str, torch.device], Tensor] = {}
        self._axes: dict[tuple[str, str], tuple[weakref.ref[nn.Module], tuple[str, ...], Axis]] = {}
        if keep is not None:
            self.update(keep)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles look axes up anew: weak references would not survive them."""
        return {**self.__dict__, '_axes': {}}

    @property
    def keep(self) -> list[Tensor]:
        """A copy of the masks, bool on the CPU, one per group."""
        return [mask.clone() for mask in self._keep]

    def update(self, keep: Sequence[Tensor]) -> None:
        """Take over new masks; channels dead already stay dead."""
        if len(keep) != len(self._keep):
            raise MmsharpError(f'{len(keep)} masks given for {len(self._keep)} groups')
        merged = []
        for group, old, new in zip(self.groups.groups, self._keep, keep):
            if new.shape != old.shape or new.dtype != torch.bool:
                raise MmsharpError(
                    f'mask of group {group.name!r}: {new.dtype} of shape {tuple(new.shape)}, expected torch.bool of '
                    f'shape {tuple(old.shape)}'
                )
            merged.append(old & new.cpu())
            if not merged[-1].any():
                raise MmsharpError(f'mask of group {group.name!r} keeps none of its {group.channels} channels')
        self._keep = merged
        self._dead = None
        self._dead_on.clear()

    def axis_masks(self) -> Iterator[tuple[str, str, Tensor, Tensor]]:
        """``(module path, axis, positions, alive)`` per member: bool ``alive[j]`` for position ``positions[j]``."""
        for group, mask in zip(self.groups.groups, self._keep):
            for member in group.members:
                yield member.module, member.axis, member.positions, mask[member.channels]

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> None:
        """Zero every position of the dead channels in place; costs a write of these positions and nothing else.

        Raises:
            MmsharpError: The model lacks a layer of the groups, or its size is another.
        """
        for _, tensor, dim, dead in self._dead_positions(model):
            tensor.index_fill_(dim, dead, 0)

    def parameter_masks(self, model: nn.Module) -> dict[nn.Parameter, Tensor]:
        """A float mask per parameter that has dead positions: 0 there, 1 elsewhere, broadcastable against it."""
        masks: dict[nn.Parameter, Tensor] = {}
        for _, tensor, dim, dead in self._dead_positions(model):
            if isinstance(tensor, nn.Parameter):
                shape = [1] * tensor.dim()
                shape[dim] = tensor.shape[dim]
                mask = torch.ones(shape, dtype=tensor.dtype, device=tensor.device).index_fill_(dim, dead, 0)
                masks[tensor] = masks[tensor] * mask if tensor in masks else mask
        return masks

    def _dead_positions(self, model: nn.Module) -> Iterator[tuple[str, Tensor, int, Tensor]]:
        """``(path, tensor, dimension, dead positions on its device)``."""
        for (path, axis_name), positions in self._dead_axes().items():
            module, axis = self._find(model, path, axis_name)
            for name, (tensor, dim) in layer_tensors(module, axis).items():
                if name in KEPT_STATISTICS:
                    continue
                key = (path, axis_name, tensor.device)
                if key not in self._dead_on:
                    self._dead_on[key] = positions.to(tensor.device)
                if int(positions[-1]) >= tensor.shape[dim]:
                    raise MmsharpError(
                        f'masks: `{path}.{name}` has {tensor.shape[dim]} channels, too few for these groups; '
                        'they were found on another model'
                    )
                yield path, tensor, dim, self._dead_on[key]

    def _find(self, model: nn.Module, path: str, axis_name: str) -> tuple[nn.Module, Axis]:
        """The layer at a path and its axis, which is looked up once for each module: masks are applied every step."""
        module: nn.Module | None = model
        for name in path.split('.') if path else ():
            module = None if module is None else module._modules.get(name)
        reference, names, axis = self._axes.get((path, axis_name), (None, (), None))
        # A parametrization or weight_norm changes the layer in place, which has other parameters then.
        own = () if module is None else tuple(module._parameters)
        if module is not None and (reference is None or reference() is not module or names != own):
            kind = layer_kind(module)
            axis = None if kind is None else kind.axis(axis_name)
            if axis is not None:
                self._axes[path, axis_name] = weakref.ref(module), own, axis
        if module is None or axis is None:
            raise MmsharpError(f'masks: the model has no prunable layer {path!r}; find its groups first')
        return module, axis

    def _dead_axes(self) -> dict[tuple[str, str], Tensor]:
        """Sorted dead positions of each axis that has any, by module path and axis."""
        if self._dead is None:
            by_axis: dict[tuple[str, str], list[Tensor]] = {}
            for path, axis, positions, alive in self.axis_masks():
                if not alive.all():
                    by_axis.setdefault((path, axis), []).append(positions[~alive])
            self._dead = {key: torch.cat(parts).sort().values for key, parts in by_axis.items()}
        return self._dead

    def recipe(self, model: nn.Module) -> Recipe:
        """The recipe that slims this model to its living channels."""
        layers = prunable_layers(model)
        modules: dict[str, LayerRecipe] = {}
        for (path, axis_name), dead in self._dead_axes().items():
            module, kind = layers[path]
            axis = kind.axis(axis_name)
            assert axis is not None
            size = axis_size(module, axis)
            alive = torch.ones(size, dtype=torch.bool)
            alive[dead] = False
            axes = {axis_name: AxisRecipe(size, tuple(alive.nonzero()[:, 0].tolist()))}
            modules[path] = LayerRecipe(kind.name, {**modules[path].axes, **axes} if path in modules else axes)
        return Recipe({path: modules[path] for path in layers if path in modules})

    @classmethod
    def from_recipe(cls, groups: GroupSet, recipe: Recipe) -> ChannelMasks:
        """The masks that gave this recipe.

        Raises:
            MmsharpError: The recipe names layers, sizes or channels that these groups do not have.
        """
        masks = cls(groups, [_mask_from_recipe(group, recipe) for group in groups.groups])
        dead = {key: positions.tolist() for key, positions in masks._dead_axes().items()}
        for path, layer in recipe.modules.items():
            for name, axis in layer.axes.items():
                removed = sorted(set(range(axis.size)) - set(axis.kept))
                if removed != dead.get((path, name), []):
                    raise MmsharpError(
                        f'recipe module {shown(path)}, axis {shown(name)}: removes {len(removed)} channels that are '
                        "not these groups' to remove; it was written for another model or with other `ignore` patterns"
                    )
        return masks


def _mask_from_recipe(group: ChannelGroup, recipe: Recipe) -> Tensor:
    keep = torch.ones(group.channels, dtype=torch.bool)
    for member in group.members:
        layer = recipe.modules.get(member.module)
        axis = None if layer is None else layer.axes.get(member.axis)
        if axis is None:
            continue
        if int(member.positions[-1]) >= axis.size:
            raise MmsharpError(
                f'recipe module {member.module!r}, axis {member.axis!r}: size {axis.size}, but its group has '
                f'position {int(member.positions[-1])}'
            )
        alive = torch.zeros(axis.size, dtype=torch.bool)
        alive[list(axis.kept)] = True
        keep[member.channels[~alive[member.positions]]] = False
    if not keep.any():
        raise MmsharpError(f'recipe: it keeps no channel of the group {group.name!r}')
    return keep
