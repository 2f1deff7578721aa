"""The cubic schedule: fast while there is much to remove, slow at the end.

Zhu and Gupta (2017), "To prune, or not to prune", arXiv 1710.01878, equation 1, with initial sparsity 0.
"""

from __future__ import annotations

from mmsharp.pruning.schedules.checks import check_progress
from mmsharp.registry import SCHEDULES


@SCHEDULES.register_module()
class Cubic:
    """``kept(progress) = target + (1 - target) * (1 - progress) ** 3``.

    Raises:
        MmsharpError: When called outside progress [0, 1] or target (0, 1].

    Example:
        >>> Cubic()(0.5, target=0.5)
        0.5625
    """

    def __call__(self, progress: float, target: float) -> float:
        """The kept fraction at this progress."""
        check_progress(progress, target)
        return target + (1 - target) * (1 - progress) ** 3
