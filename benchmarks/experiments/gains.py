"""What a method adds to plain training with the same seed, criterion and budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

BASELINE = 'SGD'


def gains(
    found: Sequence[Mapping[str, Any]], method: str, criterion: str, budget: float, key: str = 'mpc'
) -> list[float]:
    """Per seed that both have run with, what the method has more of ``key`` than :data:`BASELINE`.

    Runs with one seed share their batches and the networks that they start from, so that pairs differ by less than the
    seeds do among each other.

    Example:
        >>> a, b = dict(criterion='L2', budget=0.4), dict(method='SGD', criterion='L2', budget=0.4)
        >>> runs = [dict(a, method='SAM', seed=1, mpc=60), dict(b, seed=0, mpc=50), dict(b, seed=1, mpc=57)]
        >>> gains(runs, 'SAM', 'L2', 0.4)
        [3]
    """
    here = [line for line in found if (line['criterion'], line['budget']) == (criterion, budget)]
    plain = {line['seed']: line[key] for line in here if line['method'] == BASELINE}
    return [line[key] - plain[line['seed']] for line in here if line['method'] == method and line['seed'] in plain]
