"""The filters that make a channel, tensor by tensor: what soft pruning zeroes and copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmsharp.pruning.criteria.makers import maker_parameters
from mmsharp.pruning.groups import ChannelGroup
from mmsharp.pruning.layers import layer_kind, layer_tensors


@dataclass(frozen=True)
class FilterPart:
    """One tensor that holds something of each channel of a group.

    Args:
        name: Its path in the model.
        tensor: The model's own tensor.
        dim: The dimension along which the channels lie.
        positions: Positions along it, int64.
        channels: Channel of the group per position, int64.
        learned: Whether it is a weight or bias of a filter, and not a statistic of the channel.
    """

    name: str
    tensor: Tensor
    dim: int
    positions: Tensor
    channels: Tensor
    learned: bool


def filter_parts(model: nn.Module, group: ChannelGroup) -> Iterator[FilterPart]:
    """Weights and biases of all filters that make the channels, then the running statistics of their normalisation.

    A tensor that several layers share comes once. Scale and shift of a normalisation are no part of a filter: without
    them a filter that is zero would get no gradient, and could not grow back.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 1))
        >>> group = find_groups(model, tensor_forward(torch.zeros(2, 1, 2, 2))).groups[0]
        >>> [part.name for part in filter_parts(model, group)]
        ['0.weight', '0.bias', '1.running_mean', '1.running_var']
    """
    seen: list[tuple[Tensor, Tensor]] = []

    def new(tensor: Tensor, positions: Tensor) -> bool:
        known = any(tensor is other and torch.equal(positions, others) for other, others in seen)
        seen.append((tensor, positions))
        return not known

    for member, name, dim in maker_parameters(model, group):
        module = model.get_submodule(member.module)
        kind = layer_kind(module)
        places = {name: dim}
        if member.axis == 'out' and kind is not None and 'bias' in kind.out.tensors:
            places['bias'] = kind.out.tensors['bias']
        for place, along in places.items():
            tensor = getattr(module, place)
            if tensor is not None and new(tensor, member.positions):
                path = f'{member.module}.{place}' if member.module else place
                yield FilterPart(path, tensor, along, member.positions, member.channels, True)
    for member in group.members:
        module = model.get_submodule(member.module)
        kind = layer_kind(module)
        if member.axis != 'out' or kind is None:
            continue
        for name, (tensor, dim) in layer_tensors(module, kind.out).items():
            if name in module._buffers and new(tensor, member.positions):
                path = f'{member.module}.{name}' if member.module else name
                yield FilterPart(path, tensor, dim, member.positions, member.channels, False)


def learns(model: nn.Module, group: ChannelGroup) -> bool:
    """Whether there are filters that make the channels, and all are trained: one that is not could not grow back.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))
        >>> group = find_groups(model, tensor_forward(torch.zeros(1, 1))).groups[0]
        >>> learns(model, group)
        True
        >>> _ = model[0].weight.requires_grad_(False)
        >>> learns(model, group)
        False
    """
    trained = [part.tensor.requires_grad for part in filter_parts(model, group) if part.learned]
    return bool(trained) and all(trained)
