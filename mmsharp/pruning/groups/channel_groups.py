"""Groups of channels that have to live or die together, over a whole model.

A channel of a group is a set of positions, over several layers, that are the same number of the same feature map:
the filter that makes it, its normalisation, the filters of every layer added to it, and the weights of every layer
that reads it. Fang et al. (2023), "DepGraph: Towards Any Structural Pruning", arXiv 2301.12900, state the problem; the
groups are found here by following labels through one forward pass (``tracing/``) instead of by dependency rules
between layers, so that concatenation, flattening and shared layers need no index arithmetic of their own.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mmsharp.pruning.layers import PARAMETERS, axis_size, foreign_layers, layer_tensors, prunable_layers
from mmsharp.pruning.tracing.labels import ChannelLabels, Labels


@dataclass(frozen=True)
class Member:
    """One axis of one layer in a group: position ``positions[j]`` of the axis belongs to channel ``channels[j]``.

    Args:
        module: Path of the layer.
        axis: Name of the axis, ``'out'`` or ``'in'`` for most layers.
        positions: Sorted positions along the axis, int64.
        channels: Channel of the group per position, int64.
    """

    module: str
    axis: str
    positions: Tensor
    channels: Tensor


@dataclass(frozen=True)
class ChannelGroup:
    """Channels ``0 .. channels - 1`` that are kept or removed one by one, each everywhere at once.

    Args:
        name: Path of the first layer or attention block that makes these channels (``path#2`` for a second group that
            it makes).
        channels: How many there are.
        members: Every axis that holds them, in the model's order.
    """

    name: str
    channels: int
    members: tuple[Member, ...]

    @property
    def width(self) -> int:
        """How many channels of the layers that make it one channel of the group is: the width of a head, or 1.

        Example:
            >>> member = Member('qkv', 'out', torch.arange(6), torch.tensor([0, 1, 0, 1, 0, 1]))
            >>> ChannelGroup('qkv', 2, (member,)).width
            3
        """
        made = [member for member in self.members if member.axis == 'out']
        made = made or [member for member in self.members if member.axis.endswith('.0')]
        return math.gcd(*(len(member.positions) // self.channels for member in made)) or 1


@dataclass(frozen=True)
class DenseLayer:
    """A layer whose output channels all stay, and why."""

    module: str
    reason: str


@dataclass(frozen=True)
class GroupSet:
    """All groups of a model, and the layers whose output channels all stay."""

    groups: tuple[ChannelGroup, ...]
    dense: tuple[DenseLayer, ...]


def assemble(model: nn.Module, labels: ChannelLabels, layer_axes: dict[tuple[str, str], Labels]) -> GroupSet:
    """From resolved labels to groups: channels that occur in exactly the same axes form one group.

    So every axis is a union of whole groups, and stays wider than nothing if each of its groups does.
    """
    roots = labels.roots()
    pinned = labels.pinned(roots)
    layers = prunable_layers(model)
    order = {path: place for place, path in enumerate(layers)}
    axes = sorted(layer_axes, key=lambda key: (order[key[0]], list(layers[key[0]][1].axes).index(key[1])))
    axis_roots = {key: roots[layer_axes[key]] for key in axes}
    seen_in: dict[int, list[int]] = {}
    for number, key in enumerate(axes):
        for root in np.unique(axis_roots[key]).tolist():
            seen_in.setdefault(root, []).append(number)
    numbers: dict[tuple[int, ...], int] = {}
    group_of = {root: numbers.setdefault(tuple(where), len(numbers)) for root, where in seen_in.items()}
    reasons: dict[int, str] = {}
    for root, reason in sorted(pinned.items()):
        if root in group_of:
            reasons.setdefault(group_of[root], reason)
    for group, count in Counter(group_of.values()).items():
        if count == 1:
            reasons.setdefault(group, 'all its channels are tied into one, by shuffles or parts of them')

    stored = {
        group_of[root]
        for path, axis in axes
        if layer_tensors(layers[path][0], layers[path][1].axes[axis])
        for root in np.unique(axis_roots[path, axis]).tolist()
    }
    names: dict[int, str] = {}
    dense: list[DenseLayer] = []
    for path, (module, kind) in layers.items():
        if kind.inward is None:
            continue
        if (path, 'out') not in axis_roots:
            if axis_size(module, kind.out) < 2:
                dense.append(DenseLayer(path, 'has a single output channel'))
            continue
        made = dict.fromkeys(group_of[root] for root in axis_roots[path, 'out'].tolist())
        for group in made:
            if group not in reasons and group not in names:
                names[group] = _unused(path, set(names.values()))
        if all(group in reasons for group in made):
            dense.append(DenseLayer(path, reasons[next(iter(made))]))
    for path in layers:  # attention whose projections are parameters of its own, and not layers
        for group in dict.fromkeys(group_of[root] for root in axis_roots.get((path, 'heads'), np.array([])).tolist()):
            if group not in stored:
                continue
            if group not in reasons:
                names.setdefault(group, _unused(path, set(names.values())))
            elif not any(layer.module.startswith(f'{path}.') for layer in dense):
                dense.append(DenseLayer(path, reasons[group]))
    for where, group in numbers.items():
        paths = [axes[number][0] for number in where if layers[axes[number][0]][1].name == PARAMETERS.name]
        made_by_a_layer = any(axes[number][1] in ('out', 'heads') for number in where)
        if group in names or made_by_a_layer or not paths or len(where) < 2:  # sizes of kernels and tables are alone
            continue
        reason = reasons.get(group, 'its channels are made by parameters of its own, not by a layer')
        if DenseLayer(paths[0], reason) not in dense:
            dense.append(DenseLayer(paths[0], reason))
    dense += [DenseLayer(path, reason) for path, reason in foreign_layers(model).items()]

    members: dict[int, list[Member]] = {group: [] for group in names}
    channel_of: dict[int, dict[int, int]] = {group: {} for group in names}
    for path, axis in axes:
        here = axis_roots[path, axis]
        here_groups = np.array([group_of[root] for root in here.tolist()])
        for group in dict.fromkeys(here_groups.tolist()):
            if group not in names:
                continue
            positions = np.flatnonzero(here_groups == group)
            known = channel_of[group]
            channels = [known.setdefault(root, len(known)) for root in here[positions].tolist()]
            members[group].append(Member(path, axis, torch.from_numpy(positions), torch.tensor(channels)))
    return GroupSet(
        tuple(ChannelGroup(name, len(channel_of[group]), tuple(members[group])) for group, name in names.items()),
        tuple(dense),
    )


def _unused(path: str, taken: set[str]) -> str:
    """The path, or ``path#2`` and so on where a layer makes the channels of several groups."""
    name, number = path, 1
    while name in taken:
        number += 1
        name = f'{path}#{number}'
    return name
