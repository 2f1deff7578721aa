"""Protective reconstruction: which of the filters that have just been zeroed come back at once.

Li and Zhao (2023), "Protective Self-Adaptive Pruning to Better Compress DNNs", arXiv 2303.11881. The abstract states
that gradients are supervised so that important filters are not pruned; a summary names "pulse gradient supervision for
protective reconstruction". Definition and threshold could not be read: what stands here is our reading.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.pruning.protection.protection_memory import ProtectionMemory
from mmsharp.registry import PROTECTIONS


@PROTECTIONS.register_module()
class ProtectiveReconstruction:
    """Channel ``j`` comes back if ``pulse_j > mean + kappa * std`` over the channels of its group that were zeroed.

    Pulses scale with what lies behind a layer, so that they are compared within a group only, and any common factor,
    such as a loss scale, changes nothing. Channels whose pulse is exactly 0, such as those behind a ReLU with a shift
    that is not positive, are judged among each other by their gate gradients, which were taken before they were zeroed.

    What a protection is worth at later steps is kept by a :class:`~mmsharp.pruning.ProtectionMemory` of ``memory`` and
    ``weight``: without it a channel that came back is zeroed again at the next step for the same low score, and the
    last step, which no pulse follows, removes it.

    Our reading of PSAP; see the module.

    Args:
        kappa: How many standard deviations (of the population) above the mean.
        gate: Whether gate gradients are taken for channels without a pulse; otherwise these stay zeroed.
        refill: Whether as many further channels of the group, those of the lowest score, are zeroed as come back
            (:func:`refill`), so that the group's ratio is met in spite of the protection.
        watch: Steps of the optimizer during which the pulses are read.
        memory: Share of the evidence for a channel that is left at the next step, in [0, 1).
        weight: What one protection adds to the score of a channel, in mean scores of its group.

    Raises:
        MmsharpError: An argument is not as described.

    Example:
        >>> pulse = torch.tensor([1.0, 1.0, 9.0, 0.0])
        >>> ProtectiveReconstruction()(pulse, None, torch.tensor([True, True, True, False])).tolist()
        [False, False, True, False]
    """

    def __init__(
        self,
        kappa: float = 1.0,
        gate: bool = True,
        refill: bool = False,
        watch: int = 1,
        memory: float = 0.9,
        weight: float = 1.0,
    ) -> None:
        if isinstance(kappa, bool) or not isinstance(kappa, (int, float)) or not math.isfinite(kappa):
            raise MmsharpError(f'ProtectiveReconstruction: kappa is {kappa!r}, expected a finite number')
        for name, value in (('gate', gate), ('refill', refill)):
            if not isinstance(value, bool):
                raise MmsharpError(f'ProtectiveReconstruction: {name} is {value!r}, expected True or False')
        if isinstance(watch, bool) or not isinstance(watch, int) or watch < 1:
            raise MmsharpError(f'ProtectiveReconstruction: watch is {watch!r}, expected a positive number of steps')
        ProtectionMemory(memory, weight)  # says what is wrong with them
        self.kappa = float(kappa)
        self.gate = gate
        self.refill = refill
        self.watch = watch
        self.memory = float(memory)
        self.weight = float(weight)

    def __call__(self, pulse: Tensor, gate: Tensor | None, zeroed: Tensor) -> Tensor:
        """Which channels of a group come back.

        Args:
            pulse: Norm of the first raw gradient, shape ``(channels,)``. One that is not finite counts as 0: an
                overflow says nothing about a single channel.
            gate: Gate gradient before the channels were zeroed, same shape, or ``None`` if there is none.
            zeroed: Bool of the same shape.

        Returns:
            Bool of the same shape, a subset of ``zeroed``.
        """
        pulse = torch.where(pulse.isfinite(), pulse, torch.zeros_like(pulse))
        protected = zeroed & self._stands_out(pulse, zeroed)
        if gate is not None and self.gate:
            silent = zeroed & (pulse == 0)
            protected |= silent & self._stands_out(gate, silent)
        return protected

    def _stands_out(self, values: Tensor, among: Tensor) -> Tensor:
        if not among.any():
            return torch.zeros_like(among)
        sample = values[among].double()
        # Equal values have a standard deviation of rounding, above which none of them stands out.
        return values.double() > (sample.mean() + self.kappa * sample.std(unbiased=False)) * (1 + 1e-9)


def refill(keep: Tensor, protected: Tensor, scores: Tensor) -> Tensor:
    """Which kept channels are zeroed instead of those that come back: those of the lowest score, at least one stays.

    Args:
        keep: Bool of shape ``(channels,)``: what had been kept.
        protected: Bool of the same shape: what comes back.
        scores: The criterion's, same shape, when ``keep`` was decided.

    Returns:
        Bool of the same shape, a subset of ``keep``.

    Example:
        >>> keep = torch.tensor([True, True, True, False])
        >>> refill(keep, ~keep, torch.tensor([3.0, 1.0, 2.0, 0.5])).tolist()
        [False, True, False, False]
    """
    count = min(int(protected.sum()), int(keep.sum()) - 1)
    order = scores.masked_fill(~keep, math.inf).sort(stable=True).indices
    return torch.zeros_like(keep).index_fill_(0, order[: max(count, 0)], True)


def reconstruct(
    protection: Callable[[Tensor, Tensor | None, Tensor], Tensor],
    keep: Sequence[Tensor],
    pulses: Sequence[Tensor],
    gates: Sequence[Tensor] | None,
    scores: Sequence[Tensor] | None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Which channels of each group come back after a soft step, and which are zeroed instead.

    Args:
        protection: Such as :class:`ProtectiveReconstruction`.
        keep: Bool of shape ``(channels,)`` per group: what the step had kept.
        pulses: Per group, same shape.
        gates: Likewise, or ``None``.
        scores: Likewise, to :func:`refill` by; ``None`` zeroes nothing instead.

    Returns:
        Two masks per group, bool of the same shape.

    Example:
        >>> keep = [torch.tensor([True, False, False, False])]
        >>> reconstruct(ProtectiveReconstruction(), keep, [torch.tensor([0.0, 1.0, 1.0, 9.0])], None, None)
        ([tensor([False, False, False,  True])], [tensor([False, False, False, False])])
    """
    known: Sequence[Tensor | None] = gates or [None] * len(keep)
    back = [protection(pulse, gate, ~mask) for pulse, gate, mask in zip(pulses, known, keep)]
    if scores is None:
        return back, [torch.zeros_like(mask) for mask in keep]
    return back, [refill(mask, one, score) for mask, one, score in zip(keep, back, scores)]
