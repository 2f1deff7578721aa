"""FORCE's exponential schedule.

``k_r = exp(a log k + (1 - a) log m) = m (k / m)^a`` with ``a = r / R``: de Jorge et al. (2021), "Progressive
Skeletonization: Trimming more fat from a network at initialization", arXiv 2006.09081. NVlabs' HALP and SMCP, on which
AdaSAP builds, use the same form.
"""

from __future__ import annotations

from mmsharp.pruning.schedules.checks import check_progress
from mmsharp.registry import SCHEDULES


@SCHEDULES.register_module()
class FORCE:
    """``kept(progress) = target ** progress``: the same share of what is left goes at each step.

    Raises:
        MmsharpError: When called outside progress [0, 1] or target (0, 1].

    Example:
        >>> FORCE()(0.5, target=0.25)
        0.5
    """

    def __call__(self, progress: float, target: float) -> float:
        """The kept fraction at this progress."""
        check_progress(progress, target)
        return float(target**progress)
