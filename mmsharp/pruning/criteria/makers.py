"""The layers that make a group's channels, as criteria read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from mmsharp.pruning.groups import ChannelGroup, Member
from mmsharp.pruning.layers import PARAMETER_AXIS, layer_kind

REDUCTIONS = ('mean', 'sum', 'max')


def maker_parameters(model: nn.Module, group: ChannelGroup) -> Iterator[tuple[Member, str, int]]:
    """Where the filters lie that make the channels: convolutions (depthwise ones too) and linear layers.

    Where there are none, the matrices that attention holds as parameters of its own.

    Yields:
        The member, the name of the parameter in its module, and the dimension along which the channels lie.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> group = find_groups(model, tensor_forward(torch.zeros(1, 2))).groups[0]
        >>> [(member.module, name, dim) for member, name, dim in maker_parameters(model, group)]
        [('0', 'weight', 0)]
    """
    found = False
    for member in group.members:
        module = model.get_submodule(member.module)
        weight = module._parameters.get('weight')
        kind = layer_kind(module)
        if member.axis == 'out' and kind is not None and weight is not None and weight.dim() >= 2:
            found = True
            yield member, 'weight', kind.out.tensors['weight']
    for member in () if found else group.members:  # attention whose projections are parameters of its own
        parameter = PARAMETER_AXIS.fullmatch(member.axis)
        if parameter is None or parameter[2] != '0':
            continue
        if getattr(model.get_submodule(member.module), parameter[1]).dim() == 2:
            yield member, parameter[1], 0


def makers(model: nn.Module, group: ChannelGroup) -> Iterator[tuple[Member, Tensor]]:
    """The layers that make the channels, each with its filters; which they are: :func:`maker_parameters`.

    Yields:
        The member and its filters, shape ``(channels of the layer, weights per channel)``, float32, detached.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
        >>> group = find_groups(model, tensor_forward(torch.zeros(1, 2))).groups[0]
        >>> [(member.module, tuple(filters.shape)) for member, filters in makers(model, group)]
        [('0', (3, 2))]
    """
    for member, name, dim in maker_parameters(model, group):
        weight = getattr(model.get_submodule(member.module), name)
        yield member, weight.detach().movedim(dim, 0).flatten(1).float()


def reduced(group: ChannelGroup, parts: Iterable[tuple[Member, Tensor]], reduction: str) -> Tensor:
    """One score per channel from one score per position of each member.

    Args:
        group: The group.
        parts: Members with scores of shape ``(channels of the layer,)``.
        reduction: ``'mean'``, ``'sum'`` or ``'max'`` over the members that have the channel.

    Returns:
        Shape ``(group.channels,)``, float32 on the CPU; 0 for a channel that no member has.

    Example:
        >>> member = Member('0', 'out', torch.tensor([0, 1]), torch.tensor([1, 0]))
        >>> reduced(ChannelGroup('0', 2, (member,)), [(member, torch.tensor([3.0, 4.0]))], 'mean').tolist()
        [4.0, 3.0]
    """
    scores, count = torch.zeros(group.channels), torch.zeros(group.channels)
    for member, values in parts:
        here = values.detach().float().cpu()[member.positions]
        if reduction == 'max':
            scores.scatter_reduce_(0, member.channels, here, 'amax')
        else:
            scores.index_add_(0, member.channels, here)
        count.index_add_(0, member.channels, torch.ones_like(here))
    return scores / count.clamp(min=1) if reduction == 'mean' else scores
