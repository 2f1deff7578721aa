"""How wide the axes of a model's layers are with given masks, without building the slim model."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mmsharp.pruning.groups import GroupSet
from mmsharp.pruning.layers import axis_size, prunable_layers

AxisName = tuple[str, str]
"""Path of a layer and name of one of its axes."""


class AxisSizes:
    """``size(axis) = fixed(axis) + number of its positions whose channel is kept``, for every axis in a group.

    Args:
        model: The dense model.
        groups: Its groups.

    Example:
        >>> import torch
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 1))
        >>> sizes = AxisSizes(model, find_groups(model, tensor_forward(torch.zeros(1, 2))))
        >>> sizes([torch.tensor([True, True, True, False])])
        {('0', 'out'): 3, ('1', 'in'): 3}
    """

    def __init__(self, model: nn.Module, groups: GroupSet) -> None:
        layers = prunable_layers(model)
        self._fixed: dict[AxisName, int] = {}
        self._counted: dict[AxisName, list[int]] = {}
        self._counts: dict[tuple[int, bytes], int] = {}
        self._places: list[tuple[int, Tensor]] = []
        parts: dict[AxisName, list[tuple[int, Tensor]]] = {}
        for number, group in enumerate(groups.groups):
            for member in group.members:
                parts.setdefault((member.module, member.axis), []).append((number, member.channels))
        for (path, name), found in parts.items():
            size = axis_size(layers[path][0], layers[path][1].axis(name))  # type: ignore[arg-type]
            self.add((path, name), size - sum(len(channels) for _, channels in found), found)

    def add(self, name: AxisName, fixed: int, parts: Sequence[tuple[int, Tensor]]) -> None:
        """Follow one more size: ``fixed`` and, per group, the channel (int64) of each other position."""
        self._fixed[name], self._counted[name] = fixed, []
        for number, channels in parts:
            # most axes of a group hold the same channels: each set is counted once
            key = (number, channels.numpy().tobytes())
            if key not in self._counts:
                self._counts[key] = len(self._places)
                self._places.append((number, channels))
            self._counted[name].append(self._counts[key])

    def __call__(self, keep: Sequence[Tensor]) -> dict[AxisName, int]:
        """Sizes with these masks, bool of shape ``(channels,)`` per group."""
        return self._sizes([int(keep[number][channels].sum()) for number, channels in self._places])

    def dense(self) -> dict[AxisName, int]:
        """Sizes without masks."""
        return self._sizes([len(channels) for _, channels in self._places])

    def _sizes(self, counts: Sequence[int]) -> dict[AxisName, int]:
        return {
            name: fixed + sum(counts[place] for place in self._counted[name]) for name, fixed in self._fixed.items()
        }

    @property
    def names(self) -> set[AxisName]:
        """The axes that are followed."""
        return set(self._fixed)
