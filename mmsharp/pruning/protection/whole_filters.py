"""What soft pruning has zeroed, as it was before: sparsity that pruning has made itself says nothing about a layer.

A filter that was zeroed and grows back has small weights. Counted as they are, every layer looks sparser the more it
has been pruned, is pruned more for it, and after a few steps all ratios say what the steps did and not what the
training did. So whoever measures layers sees each filter as it was when it was last whole. The paper's rule could not
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

    Args:
        model: The model.
        groups: Its groups.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(1, 3, bias=False), nn.ReLU(), nn.Linear(3, 1))
        >>> weight = model[0].weight.data.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        >>> whole = WholeFilters(model, find_groups(model, tensor_forward(torch.zeros(1, 1))).groups)
        >>> whole.update([torch.tensor([False, False, True])])
        >>> _ = weight[:2].fill_(0.1)
        >>> with whole.shown():
        ...     weight.flatten().tolist()
        [1.0, 2.0, 3.0]
        >>> [round(value, 1) for value in weight.flatten().tolist()]
        [0.1, 0.1, 3.0]
    """

    def __init__(self, model: nn.Module, groups: Sequence[ChannelGroup]) -> None:
        parts = [(number, part) for number, group in enumerate(groups) for part in filter_parts(model, group)]
        self._parts = [(number, part) for number, part in parts if part.learned and part.tensor.dim() >= 2]
        self._keep = [torch.ones(group.channels, dtype=torch.bool) for group in groups]
        self._copies: list[Tensor | None] = [None] * len(self._parts)

    @torch.no_grad()
    def update(self, keep: Sequence[Tensor]) -> None:
        """Take copies of what is about to be zeroed; what was zeroed before and is again keeps its older copy.

        Args:
            keep: Bool of shape ``(channels,)`` per group; the others are about to be zeroed.

        Raises:
            MmsharpError: The masks do not fit the groups.
        """
        wanted, given = [len(mask) for mask in self._keep], [len(mask) for mask in keep]
        if wanted != given:
            raise MmsharpError(f'whole filters: masks of {given} channels for groups of {wanted}')
        with self.shown():
            copies = [self._read(part, keep[number]) for number, part in self._parts]
        self._keep, self._copies = [mask.clone() for mask in keep], copies

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Hold the copies in the model's weights; they are bitwise as before when the context ends."""
        present = [self._read(part, self._keep[number]) for number, part in self._parts]
        self._write(self._copies)
        try:
            yield
        finally:
            self._write(present)

    def forget(self) -> None:
        """Give the copies up."""
        self._keep = [torch.ones_like(mask) for mask in self._keep]
        self._copies = [None] * len(self._parts)

    def state_dict(self) -> dict[str, Any]:
        """Masks and copies as tensors, for a checkpoint."""
        return dict(keep=list(self._keep), copies=list(self._copies))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            MmsharpError: It is of other groups.
        """
        same = [len(mask) for mask in state['keep']] == [len(mask) for mask in self._keep]
        if not same or len(state['copies']) != len(self._parts):
            raise MmsharpError('whole filters: the state is that of another model; resume with the config it came from')
        self._keep = [mask.cpu() for mask in state['keep']]
        self._copies = list(state['copies'])

    def _read(self, part: FilterPart, keep: Tensor) -> Tensor | None:
        positions = _positions(part, keep)
        return part.tensor.detach().index_select(part.dim, positions) if len(positions) else None

    @torch.no_grad()
    def _write(self, copies: Sequence[Tensor | None]) -> None:
        for (number, part), copy in zip(self._parts, copies):
            if copy is not None:
                part.tensor.index_copy_(part.dim, _positions(part, self._keep[number]), copy.to(part.tensor))


def _positions(part: FilterPart, keep: Tensor) -> Tensor:
    return part.positions[~keep[part.channels]].to(part.tensor.device)
