"""What every schedule is given."""

from __future__ import annotations

from mmsharp.errors import MmsharpError


def check_progress(progress: float, target: float) -> None:
    """Refuse a progress outside [0, 1] and a target outside (0, 1].

    Example:
        >>> check_progress(0.5, 0.4)
    """
    if not 0 <= progress <= 1:
        raise MmsharpError(f'schedule: progress is {progress!r}, expected a number from 0 to 1')
    if not 0 < target <= 1:
        raise MmsharpError(f'schedule: target is {target!r}, expected a kept fraction in (0, 1]')
