"""When training warms up, prunes softly, holds the masks, and fine-tunes, in iterations."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmsharp.engine.pruning.phases import FINE_TUNING, WARM_UP, Phases, ends_of
from mmsharp.errors import MmsharpError

SOFT, HARD = 'soft pruning', 'hard pruning'


@dataclass(frozen=True)
class ProtectivePhases(Phases):
    """Warm-up, soft pruning, hard pruning, fine-tuning, as half-open ranges of iterations.

    A soft step is taken after every ``interval`` iterations of the soft phase, where the optimizer begins a step, and
    only where its watching window ends before the masks are held. So there is training before each of them, which says
    what a channel is worth.

    Args:
        warm_up_end: First iteration (counted from 0) that is no longer warm-up.
        pruning_end: First iteration of fine-tuning.
        interval: Iterations between two soft steps.
        soft_end: First iteration at which the masks are held.
        ramp: Soft steps after which the whole budget is asked for.
        stride: Iterations that the optimizer takes for a step: micro-batches that are accumulated.
        window: Iterations that the gradients are watched after a soft step.

    Example:
        >>> phases = ProtectivePhases(2, 14, 4, soft_end=12, ramp=2, stride=1, window=1)
        >>> [(iteration, phases.soft_progress(iteration)) for iteration in (2, 3, 6, 10, 12)]
        [(2, None), (3, None), (6, 0.5), (10, 1.0), (12, None)]
        >>> [phases.at(iteration) for iteration in (1, 2, 12, 14)]
        ['warm-up', 'soft pruning', 'hard pruning', 'fine-tuning']
        >>> phases.progress(2), phases.progress(12), phases.progress(13)
        (None, 1.0, None)
    """

    soft_end: int = 0
    ramp: int = 1
    stride: int = 1
    window: int = 0

    def at(self, iteration: int) -> str:
        """The phase that an iteration belongs to."""
        if iteration < self.warm_up_end:
            return WARM_UP
        if iteration < self.soft_end:
            return SOFT
        return HARD if iteration < self.pruning_end else FINE_TUNING

    def progress(self, iteration: int) -> float | None:
        """1 just before the iteration from which the masks are held, ``None`` everywhere else."""
        return 1.0 if iteration == self.soft_end and self.at(iteration) == HARD else None

    def soft_progress(self, iteration: int) -> float | None:
        """How far the soft step just before this iteration goes, in (0, 1], or ``None`` where none is due."""
        if self.at(iteration) != SOFT or iteration % self.stride or iteration + self.window > self.soft_end:
            return None
        step, late = divmod(iteration - self.warm_up_end, self.interval)
        return None if late >= self.stride or step < 1 else min(1.0, step / self.ramp)


def interval_of_parts(length: int, parts: int, stride: int = 1, window: int = 0) -> int:
    """The shortest interval that cuts a soft phase into at most so many parts, with training in each.

    A step ends each part but the last, which ends where the masks are held. After a step, or a watching window, just
    before that, what came back or grows would be judged before it has learned anything. So every part has at least as
    much training behind its window as the window is long, and the last at least half of what the others have; where
    that is not to be had, there is one step, as late as its window allows, if the phase has room for two windows.

    Args:
        length: Of the soft phase, in iterations, from one step of the optimizer to another.
        parts: At least 1.
        stride: Iterations that the optimizer takes for a step; the interval is a multiple of it.
        window: Iterations that the gradients are watched after a soft step.

    Example:
        >>> interval_of_parts(80, 8), interval_of_parts(81, 8), interval_of_parts(50, 8)
        (10, 12, 9)
        >>> interval_of_parts(192, 8, stride=16, window=16), interval_of_parts(3, 8, window=1)
        (32, 2)
    """
    shortest = max(math.ceil(length / parts), 2 * window, 1)
    longest = length - window  # after which a window fits
    for interval in range(math.ceil(shortest / stride) * stride, longest + 1, stride):
        if 2 * (length - (length - 1) // interval * interval - window) >= interval - window:
            return interval
    return max(longest // stride * stride, window, stride)


def protective_phases(
    warm_up: float,
    soft: float,
    hard: float,
    ramp: float,
    interval: int,
    max_iters: int,
    iters_per_unit: int,
    stride: int = 1,
    window: int = 0,
) -> ProtectivePhases:
    """Turn the lengths that a user gives into iterations.

    Args:
        warm_up: Length of the warm-up: a float is a share of all iterations, an int a number of units.
        soft: Length of the soft phase, likewise.
        hard: Length of the hard phase, likewise.
        ramp: Share of the soft phase over which the schedule runs.
        interval: Iterations between two soft steps.
        max_iters: All iterations of the run.
        iters_per_unit: Iterations of an epoch for epoch loops, 1 for iteration loops.
        stride: Iterations that the optimizer takes for a step.
        window: Iterations that the gradients are watched after a soft step.

    Raises:
        MmsharpError: The phases are longer than the run, or the soft one as long; a window is longer than the interval;
            or no soft step fits.

    Example:
        >>> protective_phases(0.0, 0.75, 0, 0.5, 10, max_iters=100, iters_per_unit=20)
        ProtectivePhases(warm_up_end=0, pruning_end=75, interval=10, soft_end=75, ramp=3, stride=1, window=0)
    """
    warm_up_end, soft_end, pruning_end = ends_of((warm_up, soft, hard), max_iters, iters_per_unit)
    # Masks and loss scale change where the optimizer begins a step, too.
    earlier = soft_end % stride
    soft_end, pruning_end = soft_end - earlier, pruning_end - earlier
    warm_up_end = min(warm_up_end, soft_end)
    if pruning_end > max_iters:
        raise MmsharpError(
            f'warmup={warm_up!r}, pruning={soft!r} and hard={hard!r} end at iteration {pruning_end}, but training has '
            f'only {max_iters} iterations; shorten them or train longer'
        )
    if warm_up_end < soft_end == max_iters:
        raise MmsharpError(
            f'pruning={soft!r} is a soft phase that lasts to the end of the training, iteration {max_iters}: no mask '
            'would ever be held; make it shorter, a share such as 0.9'
        )
    if window > interval:
        raise MmsharpError(
            f'the gradients are watched for {window} iterations after a soft pruning step ({stride} to a step of the '
            f'optimizer), but the next one comes after interval={interval}; make it at least {window}'
        )
    first = math.ceil((warm_up_end + interval) / stride) * stride
    if warm_up_end < soft_end < first + window:
        raise MmsharpError(
            f'pruning={soft!r} is a soft phase of {soft_end - warm_up_end} iterations, in which no step fits after '
            f'interval={interval}; make the phase longer, or an interval of your own shorter (0 prunes at once)'
        )
    steps = max(1, math.floor(ramp * (soft_end - warm_up_end) / interval))
    return ProtectivePhases(warm_up_end, pruning_end, interval, soft_end, steps, stride, window)
