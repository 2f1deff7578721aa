"""The layers that a latency table times: which ones, on what inputs a forward calls them, and how they are cut."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mmsharp.pruning.costs.complexity import count_macs
from mmsharp.pruning.forwards import Forward, looked_at
from mmsharp.pruning.forwards.model_copies import model_copy
from mmsharp.pruning.layers import axis_size, prunable_layers
from mmsharp.pruning.slimming import apply_recipe
from mmsharp.pruning.slimming.recipe import AxisRecipe, LayerRecipe, Recipe

TIMED_AXES: dict[str, tuple[str, ...]] = {
    'Conv': ('out', 'in'),
    'DepthwiseConv': ('out',),
    'GroupedConv': ('groups',),
    'PartedConv': ('out', 'inner'),
    'ConvTranspose': ('out', 'in'),
    'Linear': ('out', 'in'),
    'StandardisedConv': ('out', 'in'),
    'RescaledConv': ('out', 'in'),
}
"""Kinds of layers that are timed alone, and the axes that say how much work they do."""
UNCOUNTED_AXES: dict[str, tuple[str, ...]] = {'DeformConv': ('out', 'in'), 'ModulatedDeformConv': ('out', 'in')}
"""Kinds of layers that are neither timed nor counted by :func:`~mmsharp.pruning.count_macs`."""


@dataclass(frozen=True)
class LayerCalls:
    """A timed layer and the shapes of what a forward calls it with."""

    module: nn.Module
    kind: str
    dense: Mapping[str, int]
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    """Numbers in the result of each call."""

    @property
    def signature(self) -> tuple[str, ...]:
        """Equal for layers that take equally long."""
        return (type(self.module).__name__, repr(self.module), *map(str, sorted(self.shapes)))

    @property
    def elements(self) -> int:
        """Numbers that all calls give, per channel of the first timed axis."""
        return sum(self.outputs) // next(iter(self.dense.values()))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all calls."""
        weight: Tensor = self.module.weight  # type: ignore[assignment]
        numbers = map(math.prod, self.shapes) if self.kind == 'ConvTranspose' else self.outputs
        return sum(numbers) * weight[0].numel()

    def multiple(self, axis: str) -> int:
        """What the size of an axis has to be a multiple of."""
        return int(self.module.groups) if self.kind == 'PartedConv' and axis == 'out' else 1  # type: ignore[arg-type]

    def cut(self, sizes: Mapping[str, int]) -> nn.Module:
        """A copy of the layer with the timed axes cut to these sizes."""
        layer = model_copy(self.module)
        layer._forward_hooks.clear()
        layer._forward_pre_hooks.clear()
        kept = self._kept(sizes)
        changed = {name: axis for name, axis in kept.items() if len(axis.kept) < axis.size}
        if changed:
            apply_recipe(layer, Recipe({'': LayerRecipe(self.kind, changed)}))
        return layer.requires_grad_(False).eval()

    def inputs(self, shape: tuple[int, ...], layer: nn.Module) -> Tensor:
        """Numbers for one of the calls, as many channels as the cut layer takes, on its device."""
        weight: Tensor = layer.weight  # type: ignore[assignment]
        if self.kind == 'Linear':
            shape = (*shape[:-1], int(layer.in_features))  # type: ignore[arg-type]
        else:
            place = 1 - weight.dim()
            shape = (*shape[:place], int(layer.in_channels), *shape[place + 1 :])  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(0)
        return torch.randn(shape, generator=generator).to(weight)

    def _kept(self, sizes: Mapping[str, int]) -> dict[str, AxisRecipe]:
        groups = int(getattr(self.module, 'groups', 1))
        if self.kind == 'GroupedConv':
            share = sizes['groups'] / groups
            wide = {'out': self.module.out_channels, 'in': self.module.in_channels, 'groups': groups}
            return {name: _first(int(size), round(int(size) * share)) for name, size in wide.items()}  # type: ignore[arg-type]
        if self.kind == 'PartedConv':
            inner = self.dense['inner']
            return {
                'out': _first_of_parts(self.dense['out'], sizes['out'], groups),
                'inner': _first(inner, sizes['inner']),
                'in': _first_of_parts(inner * groups, sizes['inner'] * groups, groups),
            }
        return {name: _first(self.dense[name], size) for name, size in sizes.items()}


def _first(size: int, kept: int) -> AxisRecipe:
    return AxisRecipe(size, tuple(range(kept)))


def _first_of_parts(size: int, kept: int, parts: int) -> AxisRecipe:
    """The first channels of each part."""
    return AxisRecipe(
        size,
        tuple(part * size // parts + place for part in range(parts) for place in range(kept // parts)),
    )


def layer_calls(
    model: nn.Module, forward: Forward, axes: Mapping[str, tuple[str, ...]] = TIMED_AXES
) -> dict[str, LayerCalls]:
    """Every timed layer that a forward calls, with the shapes of its inputs, by path.

    Only modules that are called count: ``nn.MultiheadAttention`` hands its weights to a function instead.

    Args:
        model: Left bitwise as it was.
        forward: Runs it.
        axes: Kinds of layers to look for, with the axes that say how much work they do.

    Example:
        >>> from mmsharp.pruning import tensor_forward
        >>> found = layer_calls(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), tensor_forward(torch.zeros(5, 2)))
        >>> found['0'].shapes, found['0'].elements
        ([(5, 2)], 5)
    """
    found: dict[str, LayerCalls] = {}
    handles = []

    def note(calls: LayerCalls) -> None:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> None:
            calls.shapes.append(tuple((*inputs, *named.values())[0].shape))
            calls.outputs.append(output.numel())

        handles.append(calls.module.register_forward_hook(hook, with_kwargs=True))

    for path, (module, kind) in prunable_layers(model).items():
        if kind.name in axes:
            sizes = {name: axis_size(module, kind.axes[name]) for name in axes[kind.name]}
            found[path] = LayerCalls(module, kind.name, sizes)
            note(found[path])
    try:
        with looked_at(model):
            forward(model)
    finally:
        for handle in handles:
            handle.remove()
    return {path: calls for path, calls in found.items() if calls.shapes}


def timed_share(model: nn.Module, forward: Forward) -> float:
    """Share of the multiply-accumulates of a forward that the timed layers do; 1 where there are none.

    The rest are matrix products outside of them (attention between queries and keys, weights handed to a function) and
    deformable convolutions.

    Example:
        >>> from mmsharp.pruning import tensor_forward
        >>> timed_share(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), tensor_forward(torch.zeros(5, 2)))
        1.0
    """
    timed = sum(calls.macs for calls in layer_calls(model, forward).values())
    uncounted = sum(calls.macs for calls in layer_calls(model, forward, UNCOUNTED_AXES).values())
    total = count_macs(model, forward) + uncounted
    return min(1.0, timed / total) if total else 1.0
