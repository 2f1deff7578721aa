"""Protective reconstruction: which of the filters that have just been zeroed come back at once.

Li and Zhao (2023), "Protective Self-Adaptive Pruning to Better Compress DNNs", arXiv 2303.11881. The abstract states
that gradients are supervised so that important filters are not pruned; a summary names "pulse gradient supervision for
protective reconstruction". Definition and threshold could not be read: what stands here is our reading.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError, shown
from mmsharp.pruning.protection.protection_memory import ProtectionMemory
from mmsharp.registry import PROTECTIONS

COMPARED = ('kept', 'zeroed')


@PROTECTIONS.register_module()
class ProtectiveReconstruction:
    """Channel ``j`` comes back if ``pulse_j > mean + kappa * std`` over the channels of its group that were zeroed.

    Pulses scale with what lies behind a layer, so that they are compared within a group only, and any common factor,
    such as a loss scale, changes nothing. Channels whose pulse is exactly 0, such as those behind a ReLU with a shift
    that is not positive, stay zeroed, as do those of groups in which nobody can stand out: none of ``n`` values lies
    more than ``sqrt(n - 1)`` standard deviations above their mean, so that ``n <= 1 + max(kappa, 0)^2`` zeroed channels
    are too few, with ``kappa=1`` one or two.

    With ``gate=True`` both are judged by their gate gradients, which were taken before they were zeroed: those without
    a pulse against each other's, so that the best of any lot come back, or with ``among='kept'`` against those of the
    channels that were kept, so that nobody comes back who matters less than these; too few, by the same formula, among
    themselves and the kept ones. Far more come back by that than by pulses, which cost accuracy in our runs
    (docs/results.md), so that it is not the default.

    What a protection is worth at later steps is kept by a :class:`~mmsharp.pruning.ProtectionMemory` of ``memory`` and
    ``weight``: without it a channel that came back is zeroed again at the next step for the same low score, and the
    last step, which no pulse follows, removes it.

    Our reading of PSAP; see the module.

    Args:
        kappa: How many standard deviations (of the population) above the mean.
        gate: Whether gate gradients are taken for channels without a pulse, or with too few to compare with.
        among: Whose gate gradients give mean and deviation, ``'kept'`` or ``'zeroed'``.
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
        >>> gate = torch.tensor([9.0, 1.0, 1.0, 2.0])
        >>> ProtectiveReconstruction(gate=True)(pulse, gate, torch.tensor([True, True, False, False])).tolist()
        [True, False, False, False]
    """

    def __init__(
        self,
        kappa: float = 1.0,
        gate: bool = False,
        among: str = 'zeroed',
        refill: bool = False,
        watch: int = 1,
        memory: float = 0.9,
        weight: float = 1.0,
    ) -> None:
        if isinstance(kappa, bool) or not isinstance(kappa, (int, float)) or not math.isfinite(kappa):
            raise MmsharpError(f'ProtectiveReconstruction: kappa is {kappa!r}, expected a finite number')
        if among not in COMPARED:
            raise MmsharpError(f'ProtectiveReconstruction: among is {shown(among)}; accepted: {", ".join(COMPARED)}')
        self.kappa = float(kappa)
        self.among = among
        self.gate = gate
        self.refill = refill
        self.watch = watch
        self.memory = memory
        self.weight = weight
        check_protection(self)

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
        protected = zeroed & (pulse > 0) & self._stands_out(pulse, zeroed)
        if gate is not None and self.gate:
            judged = zeroed if self._too_few(zeroed) else zeroed & (pulse == 0)
            among = judged | ~zeroed if self._too_few(judged) else judged
            among = ~zeroed if self.among == 'kept' else among
            protected |= judged & self._stands_out(gate, among)
        return protected

    def _too_few(self, among: Tensor) -> bool:
        return int(among.sum()) <= 1 + max(self.kappa, 0.0) ** 2

    def _stands_out(self, values: Tensor, among: Tensor) -> Tensor:
        if not among.any():
            return torch.zeros_like(among)
        sample = values[among].double()
        # Equal values have a standard deviation of rounding, above which none of them stands out.
        return values.double() > (sample.mean() + self.kappa * sample.std(unbiased=False)) * (1 + 1e-9)


def check_protection(protection: Any) -> None:
    """Refuse an object that the watching window could not go by.

    Args:
        protection: A callable with ``watch``, ``gate`` and ``refill``, and with ``memory`` and ``weight`` if what it
            brings back is to be remembered.

    Raises:
        MmsharpError: Naming what is missing or wrong, and what is accepted.

    Example:
        >>> check_protection(ProtectiveReconstruction(watch=2))
        >>> check_protection(lambda pulse, gate, zeroed: zeroed)
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: function: watch is missing, expected a positive number of steps
    """
    name = type(protection).__name__
    if not callable(protection):
        raise MmsharpError(f'{name} is no callable, and a protection is called as protection(pulse, gate, zeroed)')
    missing = object()
    watch = getattr(protection, 'watch', missing)
    if isinstance(watch, bool) or not isinstance(watch, int) or watch < 1:
        raise MmsharpError(f'{name}: watch is {_seen(watch, missing)}, expected a positive number of steps')
    for key in ('gate', 'refill'):
        value = getattr(protection, key, missing)
        if not isinstance(value, bool):
            raise MmsharpError(f'{name}: {key} is {_seen(value, missing)}, expected True or False')
    try:
        ProtectionMemory(getattr(protection, 'memory', 0.0), getattr(protection, 'weight', 0.0))
    except MmsharpError as error:
        raise MmsharpError(f'{name}: {error}') from None


def _seen(value: Any, missing: object) -> str:
    return 'missing' if value is missing else repr(value)


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
    names: Sequence[str] | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Which channels of each group come back after a soft step, and which are zeroed instead.

    Args:
        protection: Such as :class:`ProtectiveReconstruction`.
        keep: Bool of shape ``(channels,)`` per group: what the step had kept.
        pulses: Per group, same shape.
        gates: Likewise, or ``None``.
        scores: Likewise, to :func:`refill` by; ``None`` zeroes nothing instead.
        names: Of the groups, for messages.

    Returns:
        Two masks per group, bool of the same shape; what was kept cannot come back.

    Raises:
        MmsharpError: The protection gives no bool tensor of that shape.

    Example:
        >>> keep = [torch.tensor([True, False, False, False])]
        >>> reconstruct(ProtectiveReconstruction(), keep, [torch.tensor([0.0, 1.0, 1.0, 9.0])], None, None)
        ([tensor([False, False, False,  True])], [tensor([False, False, False, False])])
    """
    known: Sequence[Tensor | None] = gates or [None] * len(keep)
    back = []
    for number, (pulse, gate, mask) in enumerate(zip(pulses, known, keep)):
        answer = protection(pulse, gate, ~mask)
        if not isinstance(answer, Tensor) or answer.dtype != torch.bool or answer.shape != mask.shape:
            given = f'{answer.dtype} of shape {tuple(answer.shape)}' if isinstance(answer, Tensor) else shown(answer)
            raise MmsharpError(
                f'{type(protection).__name__}: for group {names[number] if names else number!r} it gives {given}, '
                f'expected a torch.bool tensor of shape {tuple(mask.shape)}, True for each channel that comes back'
            )
        back.append(answer.to(mask.device) & ~mask)
    if scores is None:
        return back, [torch.zeros_like(mask) for mask in keep]
    return back, [refill(mask, one, score) for mask, one, score in zip(keep, back, scores)]
