"""When training warms up, prunes and fine-tunes, in iterations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from mmsharp.errors import MmsharpError

WARM_UP, PRUNING, FINE_TUNING = 'warm-up', 'pruning', 'fine-tuning'


@dataclass(frozen=True)
class Phases:
    """Warm-up, then pruning, then fine-tuning, as half-open ranges of iterations.

    Args:
        warm_up_end: First iteration (counted from 0) that is no longer warm-up.
        pruning_end: First iteration of fine-tuning.
        interval: Iterations between two pruning steps.

    Example:
        >>> phases = Phases(warm_up_end=10, pruning_end=40, interval=15)
        >>> [phases.at(iteration) for iteration in (9, 10, 40)]
        ['warm-up', 'pruning', 'fine-tuning']
        >>> [(iteration, phases.progress(iteration)) for iteration in (9, 10, 11, 25, 39)]
        [(9, None), (10, 0.5), (11, None), (25, 1.0), (39, None)]
    """

    warm_up_end: int
    pruning_end: int
    interval: int

    def at(self, iteration: int) -> str:
        """The phase that an iteration belongs to."""
        if iteration < self.warm_up_end:
            return WARM_UP
        return PRUNING if iteration < self.pruning_end else FINE_TUNING

    def progress(self, iteration: int) -> float | None:
        """How far pruning goes just before this iteration, in (0, 1], or ``None`` where no step is due."""
        if self.at(iteration) != PRUNING or (iteration - self.warm_up_end) % self.interval:
            return None
        steps = math.ceil((self.pruning_end - self.warm_up_end) / self.interval)
        return ((iteration - self.warm_up_end) // self.interval + 1) / steps


def phases_from_lengths(warm_up: float, pruning: float, interval: int, max_iters: int, iters_per_unit: int) -> Phases:
    """Turn the lengths that a user gives into iterations.

    Args:
        warm_up: Length of the warm-up: a float is a share of all iterations, an int a number of units.
        pruning: Length of the pruning phase, likewise; 0 prunes in one shot.
        interval: Iterations between two pruning steps.
        max_iters: All iterations of the run.
        iters_per_unit: Iterations of an epoch for epoch loops, 1 for iteration loops.

    Raises:
        MmsharpError: The phases are longer than the run.

    Example:
        >>> phases_from_lengths(1, 0.3, 30, max_iters=1000, iters_per_unit=100)
        Phases(warm_up_end=100, pruning_end=400, interval=30)
    """
    warm_up_end, pruning_end = ends_of((warm_up, pruning), max_iters, iters_per_unit)
    if pruning_end > max_iters:
        raise MmsharpError(
            f'warmup={warm_up!r} and pruning={pruning!r} end at iteration {pruning_end}, but training has only '
            f'{max_iters} iterations; shorten them or train longer'
        )
    return Phases(warm_up_end, pruning_end, interval)


def validate_length(name: str, length: float) -> float:
    """Refuse what is neither a share of the training in [0, 1) nor a whole number of epochs or iterations.

    Raises:
        MmsharpError: Naming the argument and what is accepted.

    Example:
        >>> validate_length('warmup', 0.1), validate_length('pruning', 5)
        (0.1, 5)
    """
    share = isinstance(length, float) and 0.0 <= length < 1.0
    count = isinstance(length, int) and not isinstance(length, bool) and length >= 0
    if not (share or count):
        raise MmsharpError(
            f'{name}={length!r} is neither a share of the training in [0, 1) nor a whole number of epochs (iterations '
            'in iteration loops)'
        )
    return length


def iterations_of(length: float, max_iters: int, iters_per_unit: int) -> int:
    """A length that a user gives, in iterations.

    Example:
        >>> iterations_of(0.25, 1000, 100), iterations_of(2, 1000, 100)
        (250, 200)
    """
    return round(length * max_iters) if isinstance(length, float) else length * iters_per_unit


def ends_of(lengths: Sequence[float], max_iters: int, iters_per_unit: int) -> list[int]:
    """Where phases that follow each other end, in iterations: their sums are rounded, so that shares of 1 fill the run.

    Args:
        lengths: A float is a share of all iterations, an int a number of units.
        max_iters: All iterations of the run.
        iters_per_unit: Iterations of an epoch for epoch loops, 1 for iteration loops.

    Example:
        >>> ends_of((0.5, 0.5), 23, 1), ends_of((2, 0.25), 1000, 100)
        ([12, 23], [200, 450])
    """
    exact = (length * (max_iters if isinstance(length, float) else iters_per_unit) for length in lengths)
    return [round(end) for end in accumulate(exact)]
