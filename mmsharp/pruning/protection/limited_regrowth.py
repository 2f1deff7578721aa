"""Let zeroed filters grow back by steps of the usual length, instead of by a pulse.

A filter that is still zero when it is trained on answers every batch with a pulse. One step along it leaves a filter
many times longer than those that were kept: batch normalisation hides that, a criterion that measures lengths takes it
for importance, and a clipping norm, an ascent or a check for overflow sees little else in the meantime. Adam and its
kin divide a gradient by its own size, so that the length of the gradient says nothing of the step: a filter whose
moments begin anew takes steps several times as long as the others, and the step itself is shortened. That PSAP or soft
filter pruning limit the regrowth is not known; the limit is ours.
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
        gradient: Of a parameter, or a step of it.
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

    Lengths are compared within one gradient, so that a loss scale changes nothing. The steps of an optimizer that is
    not ``torch.optim.SGD`` are shortened likewise, to the mean length of the steps of the others.

    Args:
        model: The model.
        groups: Its groups.
        growing: Bool of shape ``(channels,)`` per group: the zeroed channels that have not come back.
        optimizer: Of the model, if its steps may have to be shortened.

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

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[ChannelGroup],
        growing: Sequence[Tensor],
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self.growing = [mask.clone() for mask in growing]
        self._handles: list[Any] = []
        self._limited: list[tuple[Tensor, int, Tensor]] = []
        self._before: list[Tensor] = []
        places: dict[Tensor, list[tuple[int, Tensor]]] = defaultdict(list)
        for group, mask in zip(groups, growing):
            for part in filter_parts(model, group) if mask.any() else ():
                if part.learned and part.tensor.requires_grad:
                    places[part.tensor].append((part.dim, part.positions[mask[part.channels]]))
        for parameter, parts in places.items():
            positions = torch.cat([here for _, here in parts]).to(parameter.device)
            if len(positions):
                self._limit(parameter, parts[0][0], positions)
        # SGD's steps are as long as its gradients.
        if optimizer is not None and not isinstance(optimizer, torch.optim.SGD) and self._limited:
            self._handles.append(optimizer.register_step_pre_hook(lambda *_: self._before_step()))
            self._handles.append(optimizer.register_step_post_hook(lambda *_: self._after_step()))

    def _limit(self, parameter: Tensor, dim: int, positions: Tensor) -> None:
        self._limited.append((parameter, dim, positions))
        self._handles.append(parameter.register_hook(lambda gradient: shortened(gradient, dim, positions)))

    def _before_step(self) -> None:
        self._before = [parameter.detach().clone() for parameter, _, _ in self._limited]

    @torch.no_grad()
    def _after_step(self) -> None:
        for (parameter, dim, positions), before in zip(self._limited, self._before):
            step = shortened(parameter - before, dim, positions)
            now = before.index_select(dim, positions) + step.index_select(dim, positions)
            parameter.index_copy_(dim, positions, now)
        self._before = []

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
