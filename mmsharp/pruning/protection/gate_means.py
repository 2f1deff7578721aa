"""Gate gradients averaged over the steps of a training: one batch says little about a channel, many say more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmsharp.pruning.groups import ChannelGroup
from mmsharp.pruning.protection.gate_gradients import gate_gradients


class GateMeans:
    """``mean over steps of |gate_j|``, of the steps whose gradients are finite; see :func:`gate_gradients`.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1))
        >>> _ = model[0].weight.data.copy_(torch.tensor([[2.0], [-2.0]]))
        >>> _ = model[2].weight.data.copy_(torch.tensor([[3.0, 3.0]]))
        >>> groups, means = find_groups(model, tensor_forward(torch.zeros(1, 1))).groups, GateMeans()
        >>> for image in (1.0, 2.0):
        ...     model.zero_grad()
        ...     model(torch.full((1, 1), image)).sum().backward()
        ...     means.observe(model, groups)
        >>> means.means()[0].tolist()
        [9.0, 0.0]
    """

    def __init__(self) -> None:
        self._sums: list[Tensor] = []
        self._steps: Tensor | None = None

    @torch.no_grad()
    def observe(self, model: nn.Module, groups: Sequence[ChannelGroup]) -> None:
        """Take in the gradients of one step; nothing waits for a GPU.

        Args:
            model: Its parameters hold ``.grad``.
            groups: Its groups, the same each time.
        """
        gates = [gate_gradients(model, group) for group in groups]
        if not gates:
            return
        finite = torch.stack([gate.sum().to(gates[0].device) for gate in gates]).isfinite().all()
        gates = [gate.masked_fill(~finite.to(gate.device), 0.0) for gate in gates]
        before = self._sums or [torch.zeros_like(gate) for gate in gates]
        self._sums = [old.to(gate) + gate for old, gate in zip(before, gates)]
        steps = finite.float()
        self._steps = steps if self._steps is None else self._steps.to(steps) + steps

    def means(self) -> list[Tensor] | None:
        """Per group float32 of shape ``(channels,)`` on the CPU; ``None`` before the first finite step."""
        if self._steps is None or not self._steps.item():
            return None
        steps = float(self._steps)
        return [(total / steps).cpu() for total in self._sums]

    def reset(self) -> None:
        """Begin new means."""
        self._sums, self._steps = [], None

    def state_dict(self) -> dict[str, Any]:
        """Sums and number of steps, as tensors, for a checkpoint."""
        return dict(sums=list(self._sums), steps=self._steps)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self._sums, self._steps = list(state['sums']), state['steps']
