"""Mean and spread of runs that differ in their seed alone, from a comparison of them."""

import re
from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any

from mmsharp.errors import MmsharpError

SCORES = ('clean', 'mpc', 'rpc')
SEED = re.compile(r'[_-]?seed[_-]?\d+', re.IGNORECASE)
"""What the names of runs with other seeds differ in."""


def mean_over_seeds(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Put the runs of one method together: those whose names are equal but for ``_seed0``, ``_seed1`` and so on.

    Args:
        comparison: What :func:`~mmsharp.robustness.compare_runs` returns.

    Returns:
        A row per method, in the order of their first runs, with ``name``, ``runs`` (how many), and under ``clean``,
        ``mpc`` and ``rpc`` a dictionary of ``mean`` and ``spread``, the standard deviation with ``n - 1`` in the
        denominator, in the units of the scores. The spread of one run is ``None``; so are both where a run lacks the
        score, since a mean of the others would be one of other runs.

    Raises:
        MmsharpError: No two runs are of one method.

    Example:
        >>> runs = [dict(name=f'sgd_seed{n}', scores=dict(clean=c, mpc=c, rpc=1.0)) for n, c in enumerate((2.0, 4.0))]
        >>> [row] = mean_over_seeds(dict(runs=runs))
        >>> row['name'], row['runs'], row['clean']['mean'], round(row['clean']['spread'], 3)
        ('sgd', 2, 3.0, 1.414)
    """
    methods: dict[str, list[Mapping[str, Any]]] = {}
    for run in comparison['runs']:
        methods.setdefault(_method_of(run['name']), []).append(run['scores'])
    if all(len(runs) == 1 for runs in methods.values()):
        raise MmsharpError(
            f'the runs {", ".join(run["name"] for run in comparison["runs"])} are one of each method; give runs whose '
            'names are equal but for their seed, as sgd_seed0 and sgd_seed1'
        )
    return [
        dict(name=name, runs=len(runs), **{key: _mean_and_spread([run[key] for run in runs]) for key in SCORES})
        for name, runs in methods.items()
    ]


def _method_of(name: str) -> str:
    return SEED.sub('', name).strip('/_-') or 'all'


def _mean_and_spread(values: list[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return dict(mean=None, spread=None)
    return dict(mean=fmean(known), spread=stdev(known) if len(known) > 1 else None)
