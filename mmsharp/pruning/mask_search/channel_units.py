"""A mask entry for every channel of every coupled group."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.allocation import Limits, Uniform
from mmsharp.pruning.costs.cost import CostModel
from mmsharp.pruning.criteria import Magnitude
from mmsharp.pruning.forwards import Forward
from mmsharp.pruning.groups import ChannelGroup, GroupSet, Member
from mmsharp.pruning.layers import layer_kind, layer_tensors
from mmsharp.pruning.mask_search.hard_masks import kept_count
from mmsharp.pruning.mask_search.parameter_owners import parameter_owners
from mmsharp.pruning.mask_search.units import MaskUnits


class ChannelUnits(MaskUnits):
    """A gate before everything that reads a channel: the readers' weights are multiplied by the channel's mask.

    So a channel at 0 is one that nobody sees, as if it had been removed, whatever lies between the layer that makes it
    and those that read it. Where a reader has no weight per channel (convolutions in groups, attention), all parameters
    of the group but the readers' are multiplied instead. Ours: the paper's masks are most likely of single weights.

    A group that only frozen layers make has no mask and stays whole, as under :class:`~mmsharp.pruning.Taylor`, the
    other criterion that is learned from gradients.

    Args:
        groups: The groups of the model.
        model: The dense model.
        ratio: The share of each group's channels that goes; or else
        budget: ``(resource, kept fraction)``, met by the same share of each group.
        forward: Runs the model, for the budget.
        round_to: As in :class:`~mmsharp.pruning.ChannelPruner`, for the budget.

    Raises:
        MmsharpError: There is no group, or none that learns; the budget cannot be met; or a gate would close in another
            module too, which owns the same weight.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
        >>> groups = find_groups(model, tensor_forward(torch.zeros(1, 2)))
        >>> units = ChannelUnits(groups, model, ratio=0.5)
        >>> units.kept, [*units.masked(model, {'0': torch.ones(4)})]
        ({'0': 2}, ['2.weight'])
    """

    def __init__(
        self,
        groups: GroupSet,
        model: nn.Module,
        ratio: float | None = None,
        budget: tuple[str, float] | None = None,
        forward: Forward | None = None,
        round_to: int = 1,
    ) -> None:
        if not groups.groups:
            raise MmsharpError(f'{type(model).__name__} has no prunable channel group; search masks over weights')
        self.groups = groups
        self.whole = {group.name: self.FROZEN for group in groups.groups if _is_frozen(model, group)}
        searched = [group for group in groups.groups if group.name not in self.whole]
        if not searched:
            raise MmsharpError(
                f'all channel groups of {type(model).__name__} are made by frozen layers; let some of them learn, such '
                'as by frozen_stages=-1'
            )
        self.shapes = {group.name: (group.channels,) for group in searched}
        if budget is not None:
            assert forward is not None
            kept = _within_budget(groups, model, budget, forward, round_to, self.whole)
            self.kept = {group.name: kept[group.name] for group in searched}
        else:
            self.kept = {group.name: kept_count(group.channels, ratio or 0.0, group.name) for group in searched}
        self._gated: dict[tuple[str, int], list[tuple[str, Member]]] = {}
        for group in searched:
            for member, name, dim in gated_parameters(model, group):
                self._gated.setdefault((f'{member.module}.{name}', dim), []).append((group.name, member))
        _check_owners(model, [name for name, _ in self._gated])

    def values(self, model: nn.Module) -> dict[str, Tensor]:
        """L2 norms of the filters that make each channel."""
        magnitude, device = Magnitude(), next(model.parameters()).device
        groups = (group for group in self.groups.groups if group.name in self.shapes)
        return {group.name: magnitude(model, group).to(device) for group in groups}

    def fan_in(self, name: str) -> int:
        """1: a channel is one number of what is read."""
        return 1

    def masked(self, model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The gated parameters."""
        found: dict[str, Tensor] = {}
        for (name, dim), members in self._gated.items():
            parameter = found.get(name, model.get_parameter(name))
            gate = torch.ones(parameter.shape[dim], dtype=parameter.dtype, device=parameter.device)
            for group, member in members:
                places = member.positions.to(parameter.device)
                gate = gate.index_put((places,), masks[group][member.channels.to(parameter.device)].to(gate.dtype))
            shape = [1] * parameter.dim()
            shape[dim] = -1
            found[name] = parameter * gate.reshape(shape)
        return found

    def keep(self, masks: Mapping[str, Tensor]) -> list[Tensor]:
        """Binary masks as keep-masks, bool on the CPU, one per group; all ones of a group that stays whole."""
        whole = {name: torch.ones(1) for name in self.whole}
        found = {**whole, **masks}
        return [(found[group.name].detach().cpu() > 0).expand(group.channels) for group in self.groups.groups]


def gated_parameters(model: nn.Module, group: ChannelGroup) -> Iterator[tuple[Member, str, int]]:
    """Where a group's mask acts: the member, the name of the parameter in its module, and the dimension.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.Flatten())
        >>> group = find_groups(model, tensor_forward(torch.zeros(1, 3, 2, 2))).groups[0]
        >>> [(member.module, name, dim) for member, name, dim in gated_parameters(model, group)]
        [('2', 'weight', 1)]
    """
    readers, others = [], []
    gateable = True
    for member in group.members:
        module = model.get_submodule(member.module)
        kind = layer_kind(module)
        axis = None if kind is None else kind.axis(member.axis)
        if axis is None:
            continue
        tensors = [
            (member, name, dim)
            for name, (tensor, dim) in layer_tensors(module, axis).items()
            if isinstance(tensor, nn.Parameter)
        ]
        if member.axis == 'in':
            readers += tensors
            gateable = gateable and bool(tensors)
        else:
            others += tensors
            gateable = gateable and member.axis == 'out'
    yield from readers if readers and gateable else others


def _check_owners(model: nn.Module, gated: Collection[str]) -> None:
    owners = parameter_owners(model)
    for name in gated:
        names = owners[id(model.get_parameter(name))]
        if len(names) > 1:
            raise MmsharpError(
                f'mask search: {", ".join(names)} are one tied weight, and a channel of one of them is not one of the '
                'others; search over weights, leave these layers out by `ignore`, or untie them'
            )


def _is_frozen(model: nn.Module, group: ChannelGroup) -> bool:
    """Whether something makes the channels, and nothing of it learns."""
    made_by = []
    for member in group.members:
        module = model.get_submodule(member.module)
        kind = layer_kind(module)
        axis = None if kind is None or member.axis == 'in' else kind.axis(member.axis)
        if axis is not None:
            made_by += [
                tensor for tensor, _ in layer_tensors(module, axis).values() if isinstance(tensor, nn.Parameter)
            ]
    return bool(made_by) and not any(tensor.requires_grad for tensor in made_by)


def _within_budget(
    groups: GroupSet,
    model: nn.Module,
    budget: tuple[str, float],
    forward: Forward,
    round_to: int,
    unmasked: Collection[str],
) -> dict[str, int]:
    """How many channels each group keeps when all lose the same share."""
    resource, target = budget
    cost = CostModel(model, forward, groups)
    whole = [torch.ones(group.channels, dtype=torch.bool) for group in groups.groups]
    stay = frozenset(place for place, group in enumerate(groups.groups) if group.name in unmasked)
    limits = Limits(1, round_to, tuple(group.width for group in groups.groups), whole=stay)
    scores = [torch.arange(group.channels, dtype=torch.float32) for group in groups.groups]
    keep = Uniform()(scores, whole, target, lambda masks: cost.fraction(resource, masks), limits)
    return {group.name: int(mask.sum()) for group, mask in zip(groups.groups, keep)}
