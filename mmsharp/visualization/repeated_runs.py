"""Mean and spread of runs with several seeds, as a table in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmsharp.visualization.numbers import DASH, value_text

HEAD = ('method', 'runs', 'clean P', 'mPC', 'rPC')


def seeds_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """One row per method, ``mean ± spread``; see :func:`mmsharp.robustness.mean_over_seeds`.

    Example:
        >>> scores = dict(clean=dict(mean=71.5, spread=2.12), mpc=dict(mean=40.0, spread=None))
        >>> row = dict(name='sgd', runs=2, rpc=dict(mean=0.5594, spread=0.012), **scores)
        >>> print(seeds_markdown([row]), end='')
        | method | runs | clean P | mPC | rPC |
        |---|---:|---:|---:|---:|
        | sgd | 2 | 71.5 ± 2.1 | 40.0 | 55.9 ± 1.2 % |
    """
    top = max((row[key]['mean'] for row in rows for key in ('clean', 'mpc') if row[key]['mean'] is not None), default=1)
    lines = [_row(HEAD), '|---|' + '---:|' * (len(HEAD) - 1)]
    for row in rows:
        values = [_text(row[key], top) for key in ('clean', 'mpc')]
        share = {key: None if value is None else 100 * value for key, value in row['rpc'].items()}
        lines.append(_row((row['name'], str(row['runs']), *values, _text(share, 100, ' %'))))
    return '\n'.join(lines) + '\n'


def _row(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'


def _text(found: Mapping[str, float | None], top: float, unit: str = '') -> str:
    if found['mean'] is None:
        return DASH
    spread = '' if found['spread'] is None else f' ± {value_text(found["spread"], top=top)}'
    return f'{value_text(found["mean"], top=top)}{spread}{unit}'
