"""Everything at once."""

from __future__ import annotations

from mmsharp.errors import MmsharpError
from mmsharp.pruning.schedules.checks import check_progress
from mmsharp.registry import SCHEDULES


@SCHEDULES.register_module()
class OneShot:
    """``kept(progress) = target if progress >= at and progress > 0 else 1``.

    Args:
        at: Progress at which the channels go, in [0, 1]; 0 means the first step of the phase.

    Raises:
        MmsharpError: ``at`` is outside [0, 1], or a call outside progress [0, 1] or target (0, 1].

    Example:
        >>> schedule = OneShot(at=0.5)
        >>> schedule(0.4, target=0.3), schedule(0.5, target=0.3)
        (1.0, 0.3)
    """

    def __init__(self, at: float = 0.0) -> None:
        if isinstance(at, bool) or not isinstance(at, (int, float)) or not 0 <= at <= 1:
            raise MmsharpError(f'OneShot: at is {at!r}, expected a number from 0 to 1')
        self.at = at

    def __call__(self, progress: float, target: float) -> float:
        """The kept fraction at this progress."""
        check_progress(progress, target)
        return target if progress >= self.at and progress > 0 else 1.0
