"""From layers alone to whole networks: what lies between the layers takes time, too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import nnls

from mmsharp.errors import MmsharpError
from mmsharp.pruning.costs.axis_sizes import AxisName
from mmsharp.pruning.latency.table import LatencyTable


def calibrate(
    table: LatencyTable, networks: Sequence[Mapping[AxisName, int]], seconds: Sequence[float]
) -> LatencyTable:
    """Fit the table's coefficients to whole networks, ``min sum_i (predicted_i / measured_i - 1)^2``, none negative.

    Solved by SciPy's non-negative least squares.

    Args:
        table: Its layers are used, its coefficients replaced.
        networks: Sizes of the axes of each network; see :meth:`LatencyTable.features`. At least three that differ.
        seconds: What each took.

    Raises:
        MmsharpError: Fewer than three networks, or times that are no positive numbers.

    Example:
        >>> from mmsharp.pruning.latency import LayerTable
        >>> layer = LayerTable('Linear', {'out': (1, 2, 3)}, [1.0, 4.0, 9.0], 1)
        >>> networks = [{('fc', 'out'): size} for size in (1, 2, 3)]
        >>> fitted = calibrate(LatencyTable({'fc': layer}), networks, [2 * size * size + 5 for size in (1, 2, 3)])
        >>> round(fitted.scale, 6), round(fitted.per_element, 6), round(fitted.constant, 6)
        (2.0, 0.0, 5.0)
    """
    if len(networks) < 3 or len(networks) != len(seconds):
        raise MmsharpError(
            f'calibrate: {len(networks)} networks and {len(seconds)} times; expected as many of both, at least 3'
        )
    if not all(0 < taken < math.inf for taken in seconds):
        raise MmsharpError(f'calibrate: times are {list(seconds)}, expected positive numbers')
    rows = np.array([(*table.features(sizes), 1.0) for sizes in networks]) / np.array(seconds)[:, None]
    largest = rows.max(axis=0)
    largest[largest == 0] = 1.0
    coefficients = nnls(rows / largest, np.ones(len(seconds)))[0] / largest
    scale, per_element, constant = (float(value) for value in coefficients)
    return replace(table, scale=scale, per_element=per_element, constant=constant)
