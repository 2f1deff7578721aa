"""Groups of channels that have to live or die together, over a whole model.

A channel of a group is a set of positions, over several layers, that are the same number of the same feature map:
the filter that makes it, its normalisation, the filters of every layer added to it, and the weights of every layer
that reads it. Fang et al. (2023), "DepGraph: Towards Any Structural Pruning", arXiv 2301.12900, state the problem; the
groups are found here by following labels through one forward pass (``tracing.py``) instead of by dependency rules
between layers, so that concatenation, flattening and shared layers need no index arithmetic of their own.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.forwards import Forward, looked_at
from mmsharp.pruning.labels import ChannelLabels, Labels
from mmsharp.pruning.layers import axis_size, prunable_layers
from mmsharp.pruning.tracing import ChannelTrace


@dataclass(frozen=True)
class Member:
    """One axis of one layer in a group: position ``positions[j]`` of the axis belongs to channel ``channels[j]``.

    Args:
        module: Path of the layer.
        axis: ``'out'`` or ``'in'``.
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
        name: Path of the first layer that makes these channels (``path#2`` for a second group that it makes).
        channels: How many there are.
        members: Every axis that holds them, in the model's order.
    """

    name: str
    channels: int
    members: tuple[Member, ...]


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


def find_groups(model: nn.Module, forward: Forward, ignore: Sequence[str] = ()) -> GroupSet:
    """Find the coupled channel groups of a model by following one forward pass.

    Whole stay, and are listed: channels that reach the model's outputs (classes, box coding), channels whose statistics
    are taken together (layer and group normalisation, softmax, sums without a stored weight), grouped convolutions
    that are not depthwise, raw parameters, channels taken by number, and whatever an operation without a rule reads.

    Args:
        model: Any module; it is bitwise as before afterwards, also after an error.
        forward: Runs it, from :func:`~mmsharp.pruning.tensor_forward`. Layers it does not reach stay dense.
        ignore: Patterns (``fnmatch``) of module paths whose output channels stay whole, with all modules inside.

    Raises:
        MmsharpError: A pattern matches no layer, or the forward fails.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmsharp.pruning import tensor_forward
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
        >>> found = find_groups(model, tensor_forward(torch.zeros(1, 3, 3, 3)))
        >>> [(group.name, group.channels, [m.module for m in group.members]) for group in found.groups]
        [('0', 8, ['0', '1', '3'])]
        >>> found.dense
        (DenseLayer(module='3', reason="reaches the model's outputs"),)
    """
    model = copy.deepcopy(model)  # losses may leave marks of their own, such as a history of overlaps
    with looked_at(model):
        trace = ChannelTrace(model)
        for path, reason in _ignored(model, ignore).items():
            trace.labels.pin(trace.layer_axes.get((path, 'out')), reason)
        try:
            trace.run(model, forward)
        except MmsharpError:
            raise
        except Exception as error:
            raise MmsharpError(
                f'finding channel groups: the forward of {type(model).__name__} failed with {type(error).__name__}: '
                f'{error}; give inputs that the model takes in evaluation mode'
            ) from error
    return _assemble(model, trace.labels, trace.layer_axes)


def _ignored(model: nn.Module, patterns: Sequence[str]) -> dict[str, str]:
    """Path of each ignored layer to the reason."""
    if isinstance(patterns, str):
        raise MmsharpError(f'ignore={patterns!r}: expected a sequence of patterns, such as ({patterns!r},)')
    found: dict[str, str] = {}
    layers = list(prunable_layers(model))
    for pattern in patterns:
        matched = [path for path in layers if any(fnmatchcase(part, pattern) for part in _ancestors(path))]
        if not matched:
            raise MmsharpError(
                f'ignore pattern {pattern!r} matches no layer of {type(model).__name__}; paths look like '
                f'{", ".join(repr(path) for path in layers[:3])}'
            )
        found.update((path, f'ignored by the pattern {pattern!r}') for path in matched)
    return found


def _ancestors(path: str) -> list[str]:
    parts = path.split('.')
    return ['.'.join(parts[:length]) for length in range(1, len(parts) + 1)]


def _assemble(model: nn.Module, labels: ChannelLabels, layer_axes: dict[tuple[str, str], Labels]) -> GroupSet:
    """From resolved labels to groups: channels that occur in exactly the same axes form one group.

    So every axis is a union of whole groups, and stays wider than nothing if each of its groups does.
    """
    roots = labels.roots()
    pinned = labels.pinned(roots)
    layers = prunable_layers(model)
    order = {path: place for place, path in enumerate(layers)}
    axes = sorted(layer_axes, key=lambda key: (order[key[0]], key[1] == 'in'))
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
