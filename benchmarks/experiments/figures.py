"""Figures of what experiments found: corrupted accuracy over what is left of a network, and gain over cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

BASELINE = 'SGD'
FULL = 'SAM'
SIZE = (6.4, 4.0)
MARKERS = 'osD^vP*X'


def draw_over_parameters(found: Sequence[Mapping[str, Any]], path: Path, unit: str) -> None:
    """The mPC of every method over the share of parameters that is left, mean and standard deviation of the seeds."""
    figure = Figure(SIZE, layout='constrained')
    axes = figure.add_subplot()
    for number, method in enumerate(_methods(found)):
        points = []
        for budget in sorted({line['budget'] for line in found if line['method'] == method}):
            values = _values(found, method, budget, 'mpc')
            points.append((budget, mean(values), stdev(values) if len(values) > 1 else 0.0))
        axes.errorbar(*zip(*points), fmt=f'{_marker(number)}-', capsize=3, label=method)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel('parameters kept')
    axes.set_ylabel(f'mPC ({unit})')
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, path)


def draw_gain_over_cost(
    found: Sequence[Mapping[str, Any]], path: Path, unit: str, cost: Callable[[Mapping[str, Any]], float]
) -> None:
    """What each method adds to the mPC of plain training, over what its training costs, for every budget.

    A dashed line marks 80 % of what SAM adds, a dotted one 1.2 times the cost: a cheap mode should lie above the one
    and left of the other.

    Args:
        found: Lines of a record.
        path: The file.
        unit: Of mPC.
        cost: Gives the seconds of a line.
    """
    figure = Figure(SIZE, layout='constrained')
    axes = figure.add_subplot()
    budget = max(line['budget'] for line in found)
    plain = _values(found, BASELINE, budget, 'mpc')
    seconds = mean(cost(line) for line in found if (line['method'], line['budget']) == (BASELINE, budget))
    for number, method in enumerate(_methods(found)):
        lines = [line for line in found if (line['method'], line['budget']) == (method, budget)]
        if not lines:
            continue
        gains = [line['mpc'] - mean(plain) for line in lines]
        spread = stdev(gains) if len(gains) > 1 else 0.0
        at = mean(cost(line) for line in lines) / seconds
        axes.errorbar([at], [mean(gains)], [spread], fmt=_marker(number), capsize=3, label=method)
        if method == FULL:
            axes.axhline(0.8 * mean(gains), color='gray', linestyle='--', linewidth=1)
    axes.axvline(1.2, color='gray', linestyle=':', linewidth=1)
    axes.set_xlabel('cost of training, times plain')
    axes.set_ylabel(f'gain in mPC ({unit})')
    axes.set_title(f'{budget:.0%} of the parameters', fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


def _methods(found: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(line['method'] for line in found))


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


def _values(found: Sequence[Mapping[str, Any]], method: str, budget: float, key: str) -> list[float]:
    return [line[key] for line in found if (line['method'], line['budget']) == (method, budget)]


def _save(figure: Figure, path: Path) -> None:
    """The same record gives the same file, byte by byte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({'svg.hashsalt': path.stem, 'svg.fonttype': 'none', 'font.family': 'sans-serif'}):
        FigureCanvasSVG(figure).print_svg(path, metadata={'Date': None, 'Creator': None})
