"""What soft pruning has zeroed, as it was before: sparsity that pruning has made itself says nothing about a layer.

A filter that was zeroed and grows back has small weights. Counted as they are, every layer looks sparser the more it
has been pruned, is pruned more for it, and after a few steps all ratios say what the steps did and not what the
training did. So whoever measures layers sees such a filter as it was when it was last whole. The paper's rule could not
be read; this is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.groups import ChannelGroup
from mmsharp.pruning.protection.filter_parts import FilterPart, filter_parts


class WholeFilters:
    """Copies of the weights of zeroed filters, which can be looked at in their place.

    The filters of a channel are whole until they are zeroed. They are whole again when they are restored from that
    state, or have grown: when the norm of their weights is at least that of their copies.

    Args:
        model: The model.
        groups: Its groups.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(1, 3, bias=False), nn.ReLU(), nn.Linear(3, 1))
        >>> weight = model[0].weight.data.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        >>> whole = WholeFilters(model, find_groups(model, tensor_forward(torch.zeros(1, 1))).groups)
        >>> whole.before_zeroing([torch.tensor([True, True, False])])
        >>> _ = weight[:2].copy_(torch.tensor([[0.1], [-2.5]]))
        >>> with whole.shown():
        ...     weight.flatten().tolist()
        [1.0, -2.5, 3.0]
        >>> [round(value, 1) for value in weight.flatten().tolist()]
        [0.1, -2.5, 3.0]
    """

    def __init__(self, model: nn.Module, groups: Sequence[ChannelGroup]) -> None:
        parts = [(number, part) for number, group in enumerate(groups) for part in filter_parts(model, group)]
        self._parts = [(number, part) for number, part in parts if part.learned and part.tensor.dim() >= 2]
        self._sizes = [group.channels for group in groups]
        self._copied = [torch.zeros(size, dtype=torch.bool) for size in self._sizes]
        self._copies: list[Tensor | None] = [None] * len(self._parts)

    @torch.no_grad()
    def before_zeroing(self, zeroed: Sequence[Tensor]) -> None:
        """Take copies of the whole ones of what is about to be zeroed; the others have theirs.

        Copies of what is whole again are given up.

        Args:
            zeroed: Bool of shape ``(channels,)`` per group.

        Raises:
            MmsharpError: The masks do not fit the groups.
        """
        if self._sizes != [len(mask) for mask in zeroed]:
            raise MmsharpError(
                f'whole filters: masks of {[len(mask) for mask in zeroed]} channels for groups of {self._sizes}'
            )
        small = self._still_small()
        copied = [mask | old for mask, old in zip(zeroed, small)]
        with self.shown():
            copies = [self._read(part, copied[number]) for number, part in self._parts]
        self._copied, self._copies = copied, copies

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Hold the copies in the model's weights; they are bitwise as before when the context ends."""
        small = self._still_small()
        present = [self._read(part, self._copied[number]) for number, part in self._parts]
        self._write(self._copies, small)
        try:
            yield
        finally:
            self._write(present, small)

    def forget(self) -> None:
        """Give all copies up."""
        self._copied = [torch.zeros(size, dtype=torch.bool) for size in self._sizes]
        self._copies = [None] * len(self._parts)

    def state_dict(self) -> dict[str, Any]:
        """Masks and copies as tensors, for a checkpoint."""
        return dict(copied=list(self._copied), copies=list(self._copies))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            MmsharpError: It is of other groups.
        """
        if [len(mask) for mask in state['copied']] != self._sizes or len(state['copies']) != len(self._parts):
            raise MmsharpError('whole filters: the state is that of another model; resume with the config it came from')
        self._copied = [mask.cpu() for mask in state['copied']]
        self._copies = list(state['copies'])

    @torch.no_grad()
    def _still_small(self) -> list[Tensor]:
        """Of the channels with copies those that are smaller than these."""
        present = [torch.zeros(size, dtype=torch.float64) for size in self._sizes]
        copied = [torch.zeros(size, dtype=torch.float64) for size in self._sizes]
        for (number, part), copy in zip(self._parts, self._copies):
            now = self._read(part, self._copied[number])
            if copy is not None and now is not None:
                places = part.channels[self._copied[number][part.channels]]
                for sums, values in ((present, now), (copied, copy)):
                    squares = values.movedim(part.dim, 0).flatten(1).double().square().sum(dim=1)
                    sums[number].index_add_(0, places, squares.cpu())
        return [mask & (now < then) for mask, now, then in zip(self._copied, present, copied)]

    def _read(self, part: FilterPart, chosen: Tensor) -> Tensor | None:
        positions = part.positions[chosen[part.channels]].to(part.tensor.device)
        return part.tensor.detach().index_select(part.dim, positions) if len(positions) else None

    @torch.no_grad()
    def _write(self, copies: Sequence[Tensor | None], small: Sequence[Tensor]) -> None:
        """Of copies of all channels that have some, those of the small ones into the model."""
        for (number, part), copy in zip(self._parts, copies):
            if copy is not None:
                mine = self._copied[number][part.channels]
                chosen = small[number][part.channels[mine]].nonzero()[:, 0]
                positions = part.positions[mine][chosen].to(part.tensor.device)
                old = copy.to(part.tensor).index_select(part.dim, chosen.to(part.tensor.device))
                part.tensor.index_copy_(part.dim, positions, old)
