"""The linear schedule."""

from __future__ import annotations

from mmsharp.pruning.schedules.checks import check_progress
from mmsharp.registry import SCHEDULES


@SCHEDULES.register_module()
class Linear:
    """``kept(progress) = 1 - (1 - target) * progress``.

    Raises:
        MmsharpError: When called outside progress [0, 1] or target (0, 1].

    Example:
        >>> Linear()(0.5, target=0.5)
        0.75
    """

    def __call__(self, progress: float, target: float) -> float:
        """The kept fraction at this progress."""
        check_progress(progress, target)
        return target if progress == 1 else 1 - (1 - target) * progress
