"""Let zeroed filters grow back by steps of the usual length, instead of by a pulse.

A filter that is still zero when it is trained on answers every batch with a pulse. One step along it leaves a filter
many times longer than those that were kept: batch normalisation hides that, a criterion that measures lengths takes it
for importance, and a clipping norm, an ascent or a check for overflow sees little else in the meantime. That PSAP or
soft filter pruning limit the regrowth is not known; the limit is ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmsharp.pruning.groups import ChannelGroup
from mmsharp.pruning.protection.filter_parts import filter_parts


def shortened(gradient: Tensor, dim: int, growing: Tensor) -> Tensor:
    """The gradient with ``g_j <- g_j * min(1, m / ||g_j||)`` for growing filters, ``m`` the mean length of all others.

    Args:
        gradient: Of a parameter.
        dim: The dimension along which its filters lie.
        growing: Positions of the growing filters, int64 on the gradient's device.

    Returns:
        A new tensor; a growing filter's part that is not finite is 0, and all is as it was where no others are.

    Example:
        >>> shortened(torch.tensor([[30.0, 40.0], [0.6, 0.8], [0.0, 3.0]]), 0, torch.tensor([0]))
        tensor([[1.2000, 1.6000],
                [0.6000, 0.8000],
                [0.0000, 3.0000]])
    """
    rows = gradient.movedim(dim, 0).unsqueeze(-1).flatten(1)
    lengths = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)  # a loss scale may be large
    others = torch.ones_like(lengths, dtype=torch.bool).index_fill_(0, growing, False)
    if len(growing) == len(lengths):
        return gradient
    usual = lengths.where(others, 0).sum() / (len(lengths) - len(growing))
    factors = (usual / lengths[growing]).clamp(max=1.0).nan_to_num(0.0)
    shape = [len(growing)] + [1] * (gradient.dim() - 1)
    part = gradient.movedim(dim, 0)[growing]
    part = (part * factors.to(part).view(shape)).where(lengths[growing].isfinite().view(shape), 0)
    return gradient.index_copy(dim, growing, part.movedim(0, dim))


class LimitedRegrowth:
    """Shortens the gradients of growing filters through hooks on the parameters, for any optimizer and ascent.

    Lengths are compared within one gradient, so that a loss scale changes nothing.

    Args:
        model: The model.
        groups: Its groups.
        growing: Bool of shape ``(channels,)`` per group: the zeroed channels that have not come back.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1))
        >>> _ = model[1].weight.data.copy_(torch.tensor([[300.0, 4.0]]))
        >>> groups = find_groups(model, tensor_forward(torch.zeros(1, 1))).groups
        >>> limit = LimitedRegrowth(model, groups, [torch.tensor([True, False])])
        >>> model(torch.ones(1, 1)).sum().backward()
        >>> model[0].weight.grad.flatten().tolist()
        [4.0, 4.0]
        >>> limit.close()
    """

    def __init__(self, model: nn.Module, groups: Sequence[ChannelGroup], growing: Sequence[Tensor]) -> None:
        self.growing = [mask.clone() for mask in growing]
        self._handles: list[Any] = []
        places: dict[Tensor, list[tuple[int, Tensor]]] = defaultdict(list)
        for group, mask in zip(groups, growing):
            for part in filter_parts(model, group) if mask.any() else ():
                if part.learned and part.tensor.requires_grad:
                    places[part.tensor].append((part.dim, part.positions[mask[part.channels]]))
        for parameter, parts in places.items():
            positions = torch.cat([here for _, here in parts]).to(parameter.device)
            if len(positions):
                self._limit(parameter, parts[0][0], positions)

    def _limit(self, parameter: Tensor, dim: int, positions: Tensor) -> None:
        self._handles.append(parameter.register_hook(lambda gradient: shortened(gradient, dim, positions)))

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
