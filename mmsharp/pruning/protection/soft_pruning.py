"""Prune softly: zero filters that may grow back, and keep what it takes to bring them back as they were.

He et al. (2018), "Soft Filter Pruning", arXiv 1808.06866, zero the convolutions' weights and go on training them.
Departures: all filters that make a channel of a coupled group go together, with their biases and their momentum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.groups import ChannelGroup
from mmsharp.pruning.protection.filter_parts import FilterPart, filter_parts


class SoftPruning:
    """Zeroes filters, remembers them with their momentum and running statistics, and restores some bitwise.

    Momentum is whatever the optimizer keeps in the shape of the parameter (SGD's buffer, Adam's moments); by default it
    is zeroed with the filter. Kept, it moves the filter away from zero at the next step: also one behind a ReLU that is
    closed for the zero filter, which no gradient reaches. Running statistics are copied and stay: the network learns
    new ones while the filter is zero.

    Args:
        model: The model.
        groups: Its groups.
        keep: Bool of shape ``(channels,)`` per group; the others are what this is about.
        optimizer: Of the model, if it is trained.
        clear_momentum: Whether the momentum of a zeroed filter is zeroed, too.

    Raises:
        MmsharpError: The masks do not fit the groups.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(1, 3, bias=False), nn.ReLU(), nn.Linear(3, 1))
        >>> _ = model[0].weight.data.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        >>> groups = find_groups(model, tensor_forward(torch.zeros(1, 1))).groups
        >>> soft = SoftPruning(model, groups, [torch.tensor([False, False, True])])
        >>> soft.zero_()
        >>> model[0].weight.flatten().tolist()
        [0.0, 0.0, 3.0]
        >>> soft.restore_([torch.tensor([False, True, False])])
        >>> model[0].weight.flatten().tolist()
        [0.0, 2.0, 3.0]
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[ChannelGroup],
        keep: Sequence[Tensor],
        optimizer: torch.optim.Optimizer | None = None,
        clear_momentum: bool = True,
    ) -> None:
        wanted, given = [group.channels for group in groups], [len(mask) for mask in keep]
        if wanted != given:
            raise MmsharpError(f'soft pruning: masks of {given} channels for groups of {wanted}')
        self.groups = tuple(groups)
        self.keep = [mask.clone() for mask in keep]
        self._optimizer = optimizer
        self._clear_momentum = clear_momentum
        self._parts = [list(filter_parts(model, group)) for group in groups]
        self._copies: dict[str, dict[str, Tensor]] = {}

    def zeroed(self) -> Iterator[tuple[int, FilterPart, Tensor, Tensor]]:
        """``(group, part, positions, channels)`` for every weight and bias of a zeroed channel."""
        for number, part, positions, channels in self._gone():
            if part.learned:
                yield number, part, positions, channels

    @torch.no_grad()
    def zero_(self) -> None:
        """Copy the filters with their momentum, and zero them."""
        self._copies = {}
        for number, part, positions, _ in self._gone():
            copies = self._copies.setdefault(self.groups[number].name, {})
            for name, tensor in self._tensors(part):
                copies[name] = tensor.index_select(part.dim, positions)
                if part.learned and (tensor is part.tensor or self._clear_momentum):
                    tensor.index_fill_(part.dim, positions, 0)

    @torch.no_grad()
    def restore_(self, protected: Sequence[Tensor]) -> None:
        """Write the copies of some channels back.

        Args:
            protected: Bool of shape ``(channels,)`` per group; channels that have not been zeroed are left alone.
        """
        for number, part, positions, channels in self._gone():
            chosen = protected[number][channels].nonzero()[:, 0].to(positions.device)
            copies = self._copies[self.groups[number].name]
            for name, tensor in self._tensors(part) if len(chosen) else ():
                if name in copies:
                    old = copies[name].to(tensor).index_select(part.dim, chosen)
                    tensor.index_copy_(part.dim, positions[chosen], old)

    def parameter_masks(self) -> dict[nn.Parameter, Tensor]:
        """A float mask per parameter with zeroed positions: 0 there, 1 elsewhere, broadcastable against it."""
        masks: dict[nn.Parameter, Tensor] = {}
        for _, part, positions, _ in self.zeroed():
            if isinstance(part.tensor, nn.Parameter):
                shape = [1] * part.tensor.dim()
                shape[part.dim] = part.tensor.shape[part.dim]
                mask = masks.get(part.tensor)
                mask = part.tensor.new_ones(shape) if mask is None else mask
                masks[part.tensor] = mask.index_fill(part.dim, positions, 0).detach()
        return masks

    def state_dict(self) -> dict[str, Any]:
        """Masks and copies as tensors, for a checkpoint."""
        return dict(keep=list(self.keep), copies={name: dict(copies) for name, copies in self._copies.items()})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the copies that :meth:`state_dict` gave; the model holds the zeros already.

        Raises:
            MmsharpError: They are of other channels.
        """
        same = len(state['keep']) == len(self.keep)
        if not same or not all(torch.equal(one.cpu(), other.cpu()) for one, other in zip(state['keep'], self.keep)):
            raise MmsharpError('soft pruning: the state is that of other channels; resume with the config it came from')
        self._copies = {name: dict(copies) for name, copies in state['copies'].items()}

    def _gone(self) -> Iterator[tuple[int, FilterPart, Tensor, Tensor]]:
        for number, (parts, mask) in enumerate(zip(self._parts, self.keep)):
            for part in () if mask.all() else parts:
                gone = ~mask[part.channels]
                if gone.any():
                    yield number, part, part.positions[gone].to(part.tensor.device), part.channels[gone]

    def _tensors(self, part: FilterPart) -> Iterator[tuple[str, Tensor]]:
        """The tensor itself, and what the optimizer keeps in its shape."""
        yield part.name, part.tensor
        state = {} if self._optimizer is None else self._optimizer.state.get(part.tensor, {})
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == part.tensor.shape:
                yield f'{part.name}/{name}', value
