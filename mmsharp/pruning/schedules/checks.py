"""What every schedule is given."""

from __future__ import annotations

import numbers
from typing import Any

from mmsharp.errors import MmsharpError, shown


def check_progress(progress: Any, target: Any) -> None:
    """Refuse a progress that is no number in [0, 1], and a target that is none in (0, 1].

    Raises:
        MmsharpError: One of them is not; the message names it.

    Example:
        >>> check_progress(0.5, 0.4)
    """
    if not is_number(progress) or not 0 <= progress <= 1:
        raise MmsharpError(f'schedule: progress is {shown(progress)}, expected a number from 0 to 1')
    if not is_number(target) or not 0 < target <= 1:
        raise MmsharpError(f'schedule: target is {shown(target)}, expected a kept fraction in (0, 1]')


def is_number(value: Any) -> bool:
    """Whether it is a real number; ``True`` is none.

    Example:
        >>> is_number(0.5), is_number(1), is_number(True), is_number('1')
        (True, True, False, False)
    """
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
