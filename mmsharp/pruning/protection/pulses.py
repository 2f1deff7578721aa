"""Pulses: the first gradients that filters get after they have been zeroed, read and taken out of the training.

A filter that has been zeroed before a batch normalisation has a batch variance of 0, and answers with a gradient about
``1 / sqrt(eps)`` times the usual one. That this is the "pulse gradient" of PSAP (Li and Zhao 2023, arXiv 2303.11881) is
our reading: its definition could not be read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.pruning.protection.filter_parts import FilterPart
from mmsharp.pruning.protection.soft_pruning import SoftPruning


class PulseWatch:
    """Reads the raw gradients of zeroed filters through hooks on the parameters, and hands on zeros in their place.

    ``pulse_j = sqrt(sum over steps of ||sum over micro-batches of dL/dw_j||^2)`` with ``w_j`` all filters that make
    channel ``j``. A gradient is read when autograd has added it to ``.grad``: whatever takes gradients by
    ``torch.autograd.grad``, such as an ascent pass, is not read, and sees zeros, too. Since the zeros are in place
    before anything else touches the gradient, neither a clipping norm nor a check for overflow sees the pulse, and it
    reaches no weight.

    Args:
        soft: The soft pruning that has just been done; its parameters that ask for no gradient are left out.

    Example:
        >>> from mmsharp.pruning import find_groups, tensor_forward
        >>> model = torch.nn.Sequential(torch.nn.Linear(1, 2, bias=False), torch.nn.Linear(2, 1))
        >>> _ = model[1].weight.data.copy_(torch.tensor([[3.0, 4.0]]))
        >>> groups = find_groups(model, tensor_forward(torch.zeros(1, 1))).groups
        >>> soft = SoftPruning(model, groups, [torch.tensor([False, True])])
        >>> soft.zero_()
        >>> watch = PulseWatch(soft)
        >>> model(torch.ones(1, 1)).sum().backward()
        >>> model[0].weight.grad.flatten().tolist()
        [0.0, 4.0]
        >>> watch.take_step(watch.gradients())
        >>> watch.pulses()[0].tolist()
        [3.0, 0.0]
        >>> watch.close()
    """

    def __init__(self, soft: SoftPruning) -> None:
        self._sizes = [group.channels for group in soft.groups]
        self._places = [
            (number, part, positions, channels)
            for number, part, positions, channels in soft.zeroed()
            if part.tensor.requires_grad
        ]
        self._squares = [torch.zeros(size, dtype=torch.float64) for size in self._sizes]
        self._sums: dict[int, Tensor] = {}
        self._handles: list[Any] = []
        here: dict[Tensor, list[int]] = defaultdict(list)
        for place, (_, part, _, _) in enumerate(self._places):
            here[part.tensor].append(place)
        for parameter, places in here.items():
            self._watch(parameter, places)

    def _watch(self, parameter: Tensor, places: list[int]) -> None:
        arriving: dict[int, Tensor] = {}

        def take_out(gradient: Tensor) -> Tensor:
            for place in places:
                _, part, positions, _ = self._places[place]
                arriving[place] = gradient.detach().index_select(part.dim, positions)
                gradient = gradient.index_fill(part.dim, positions, 0)
            return gradient

        def count(_: Tensor) -> None:
            for place, values in arriving.items():
                known = self._sums.get(place)
                self._sums[place] = values if known is None else known + values
            arriving.clear()

        self._handles.append(parameter.register_hook(take_out))
        self._handles.append(parameter.register_post_accumulate_grad_hook(count))

    def gradients(self) -> list[Tensor]:
        """The pulses' gradients of the step so far, zeros where there were none: the same shapes on all processes."""
        return [
            self._sums[place] if place in self._sums else self._nothing(place) for place in range(len(self._places))
        ]

    def take_step(self, gradients: Sequence[Tensor], factor: float = 1.0) -> None:
        """Count a step that is complete.

        Args:
            gradients: Those of :meth:`gradients`, or their mean over the processes.
            factor: What they are multiplied by: the inverse of a loss scale.
        """
        for (number, part, _, channels), gradient in zip(self._places, gradients):
            squares = (gradient.float() * factor).square().movedim(part.dim, 0).unsqueeze(-1).flatten(1).sum(dim=1)
            self._squares[number].index_add_(0, channels, squares.double().cpu())
        self._sums.clear()

    def forget_step(self) -> None:
        """Leave out the gradients of a step that the optimizer did not take."""
        self._sums.clear()

    def pulses(self) -> list[Tensor]:
        """Per group, float32 of shape ``(channels,)`` on the CPU; 0 for channels that are kept or got no gradient."""
        return [squares.sqrt().float() for squares in self._squares]

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def state_dict(self) -> dict[str, Any]:
        """What has been read so far, as tensors."""
        return dict(squares=list(self._squares), sums={str(place): value for place, value in self._sums.items()})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there.

        Raises:
            MmsharpError: It was read of other filters.
        """
        fits = [len(squares) for squares in state['squares']] == self._sizes and all(
            name.isdigit() and int(name) < len(self._places) and value.shape == self._nothing(int(name)).shape
            for name, value in state['sums'].items()
        )
        if not fits:
            raise MmsharpError('pulses: the state was read of other filters; resume with the config it came from')
        self._squares = [squares.cpu().clone() for squares in state['squares']]
        self._sums = {int(name): value.to(self._nothing(int(name))) for name, value in state['sums'].items()}

    def _nothing(self, place: int) -> Tensor:
        _, part, positions, _ = self._places[place]
        return _slice_of_zeros(part, positions)


def _slice_of_zeros(part: FilterPart, positions: Tensor) -> Tensor:
    shape = list(part.tensor.shape)
    shape[part.dim] = len(positions)
    return torch.zeros(shape, dtype=part.tensor.dtype, device=part.tensor.device)
