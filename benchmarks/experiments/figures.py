"""Figures of what experiments found: over what is left of a network, gain over cost, and method beside method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .gains import BASELINE, gains

FULL = 'SAM'
SIZE = (6.4, 4.0)
MARKERS = 'osD^vP*X'
WIDTH_OF_A_LETTER = 0.09
"""In inches, on average, of the labels' font."""


def draw_over_parameters(found: Sequence[Mapping[str, Any]], path: Path, unit: str) -> None:
    """The mPC of every method over the share of parameters that is left, mean and standard deviation of the seeds."""
    figure = Figure(SIZE, layout='constrained')
    axes = figure.add_subplot()
    for number, (label, method, criterion) in enumerate(_series(found)):
        points = []
        for budget in sorted({line['budget'] for line in found}):
            lines = _runs(found, method, criterion, budget)
            if lines:
                values = [line['mpc'] for line in lines]
                points.append((mean(line['parameters'] for line in lines), mean(values), _deviation(values)))
        axes.errorbar(*zip(*points), fmt=f'{_marker(number)}-', capsize=3, label=label)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel('parameters kept')
    axes.set_ylabel(f'mPC ({unit})')
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, path)


def draw_gain_over_cost(
    found: Sequence[Mapping[str, Any]], path: Path, unit: str, cost: Callable[[Mapping[str, Any]], float]
) -> None:
    """What each method adds to the mPC of plain training with the same seeds, over what its training costs.

    Drawn for the largest budget. A dotted line marks 1.2 times the cost, a dashed one 80 % of what SAM adds, if it adds
    anything: a cheap mode should lie left of the one and above the other.

    Args:
        found: Lines of a record.
        path: The file.
        unit: Of mPC.
        cost: Gives the seconds of a line.
    """
    figure = Figure(SIZE, layout='constrained')
    axes = figure.add_subplot()
    budget = max(line['budget'] for line in found)
    for number, (label, method, criterion) in enumerate(_series(found)):
        added = gains(found, method, criterion, budget)
        plain = [cost(line) for line in _runs(found, BASELINE, criterion, budget)]
        if not added:
            continue
        at = mean(cost(line) for line in _runs(found, method, criterion, budget)) / mean(plain)
        axes.errorbar([at], [mean(added)], [_deviation(added)], fmt=_marker(number), capsize=3, label=label)
        if method == FULL and mean(added) > 0:
            axes.axhline(0.8 * mean(added), color='gray', linestyle='--', linewidth=1)
    axes.axvline(1.2, color='gray', linestyle=':', linewidth=1)
    axes.set_xlabel('cost of training, times plain')
    axes.set_ylabel(f'gain in mPC ({unit})')
    axes.set_title(f'{budget:.0%} of the parameters', fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)


class Panel(NamedTuple):
    """A quantity that methods are compared by: its label, and what it is of a line."""

    label: str
    of: Callable[[Mapping[str, Any]], float]


def draw_by_method(runs: Mapping[str, Sequence[Mapping[str, Any]]], panels: Sequence[Panel], path: Path) -> None:
    """A row per method and a panel per quantity: every seed as a dot, and mean and standard deviation.

    A row so far away that it would hide how the others differ has its mean as a number at the panel's edge.

    Args:
        runs: Lines of a record by method, in the order of the rows.
        panels: What is shown.
        path: The file.
    """
    names = WIDTH_OF_A_LETTER * max(map(len, runs))  # where they do not fit, the layout cuts them off
    figure = Figure((0.4 + names + 2.1 * len(panels), 0.9 + 0.32 * len(runs)), layout='constrained')
    for axes, (label, of) in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
        rows = [[of(line) for line in lines] for lines in runs.values()]
        away = far_away(rows)
        middle = mean(mean(values) for row, values in enumerate(rows) if row not in away)
        for row, values in enumerate(rows):
            if row in away:
                below = mean(values) < middle
                text = f'\u2190 {mean(values):.1f}' if below else f'{mean(values):.1f} \u2192'
                x, where = (0.02, 'left') if below else (0.98, 'right')
                axes.text(x, row, text, transform=axes.get_yaxis_transform(), ha=where, va='center', fontsize=8)
                continue
            axes.plot(values, [row] * len(values), 'o', color='C0', alpha=0.35, markersize=4)
            axes.errorbar([mean(values)], [row], xerr=[_deviation(values)], fmt='|', color='C0', capsize=3)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
        axes.set_yticks(range(len(runs)), list(runs))
        axes.set_ylim(len(runs) - 0.5, -0.5)
    _save(figure, path)


def far_away(rows: Sequence[Sequence[float]], times: float = 4.0) -> set[int]:
    """Rows without which a panel is less than a fourth as wide, the farthest first, while three others are left.

    Example:
        >>> far_away([[84.0, 84.5], [38.0, 39.0], [83.4, 83.6], [85.0]])
        {1}
        >>> far_away([[80.0], [81.0], [82.0], [84.0]])
        set()
    """
    away: set[int] = set()
    while len(rows) - len(away) > 3:
        near = {row: values for row, values in enumerate(rows) if row not in away}
        widths = {row: _width([values for other, values in near.items() if other != row]) for row in near}
        farthest = min(widths, key=widths.__getitem__)
        if times * widths[farthest] >= _width(list(near.values())):
            break
        away.add(farthest)
    return away


def _width(rows: Sequence[Sequence[float]]) -> float:
    values = [value for row in rows for value in row]
    return max(values) - min(values)


def _series(found: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Label, method and criterion of each curve; the label names the criterion where there are several."""
    pairs = dict.fromkeys((line['method'], line['criterion']) for line in found)
    several = len({criterion for _, criterion in pairs}) > 1
    return [(f'{method}, {criterion}' if several else method, method, criterion) for method, criterion in pairs]


def _runs(found: Sequence[Mapping[str, Any]], method: str, criterion: str, budget: float) -> list[Mapping[str, Any]]:
    wanted = (method, criterion, budget)
    return [line for line in found if (line['method'], line['criterion'], line['budget']) == wanted]


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _marker(number: int) -> str:
    return MARKERS[number % len(MARKERS)]


def _save(figure: Figure, path: Path) -> None:
    """The same record gives the same file, byte by byte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({'svg.hashsalt': path.stem, 'svg.fonttype': 'none', 'font.family': 'sans-serif'}):
        FigureCanvasSVG(figure).print_svg(path, metadata={'Date': None, 'Creator': None})
