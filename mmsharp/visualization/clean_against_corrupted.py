"""A figure of several models: the clean value across, mPC up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from mmsharp.visualization.curves import spread_labels
from mmsharp.visualization.numbers import value_text

SIZE, LEFT, BOTTOM, LABELS = 280, 60, 48, 170
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
COLOURS = ('mean', 'noise', 'blur', 'weather', 'digital', 'holdout')


class Axis(NamedTuple):
    """The numbers that an axis shows: from ``low`` to ``high`` with a tick every ``step``."""

    low: float
    high: float
    step: float

    @classmethod
    def around(cls, values: Sequence[float]) -> Axis:
        """Round numbers around some values, so that these fill the axis, however close they are.

        Example:
            >>> Axis.around([91.5, 91.9, 93.0])
            Axis(low=91.0, high=93.5, step=0.5)
            >>> Axis.around([0.4, 0.4])
            Axis(low=0.3, high=0.5, step=0.1)
        """
        least, most = min(values), max(values)
        span = most - least or abs(most) or 1.0
        coarse = span / 4
        magnitude = 10.0 ** math.floor(math.log10(coarse))
        step = magnitude * next(factor for factor in STEPS if factor * magnitude >= coarse * (1 - 1e-9))
        low, high = math.floor(least / step - 0.25) * step, math.ceil(most / step + 0.25) * step
        digits = 12 - math.floor(math.log10(high - low))
        return cls(*(round(value, digits) for value in (max(low, 0.0) if least >= 0 else low, high, step)))

    def ticks(self) -> list[float]:
        """From end to end."""
        return [self.low + number * self.step for number in range(round((self.high - self.low) / self.step) + 1)]

    def text(self, value: float) -> str:
        """The number at a tick, with the digits that the step needs."""
        digits = max(0, -math.floor(math.log10(self.step) + 1e-9))
        return f'{value:.{digits + (self.step * 10**digits % 1 > 1e-6)}f}'

    def share(self, value: float) -> float:
        """Where a value lies, from 0 to 1."""
        return (value - self.low) / (self.high - self.low)


def clean_against_corrupted(runs: Iterable[Mapping[str, Any]]) -> str:
    """An SVG with a point per run that has both values; nothing for fewer than two.

    Both axes show the runs' own range: models that are compared lie close together. The dashed line, where it passes
    through, is rPC = 1, a model that corruptions do not harm.

    Args:
        runs: ``name`` and ``scores`` with ``clean`` and ``mpc`` of each.
    """
    points = [
        (run['name'], run['scores']['clean'], run['scores']['mpc'])
        for run in runs
        if run['scores']['clean'] is not None and run['scores']['mpc'] is not None
    ]
    if len(points) < 2:
        return ''
    across, up = Axis.around([clean for _, clean, _ in points]), Axis.around([mpc for _, _, mpc in points])
    top = max(max(clean, mpc) for _, clean, mpc in points)

    def x(value: float) -> float:
        return LEFT + SIZE * across.share(value)

    def y(value: float) -> float:
        return 10 + SIZE - SIZE * up.share(value)

    width, height = LEFT + SIZE + LABELS, SIZE + 10 + BOTTOM
    parts = [
        '<h2>Clean against corrupted</h2>',
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="clean value against mPC">',
    ]
    for value in up.ticks():
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + SIZE}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{up.text(value)}</text>')
    for value in across.ticks():
        parts.append(f'<line class="grid" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="10" y2="{SIZE + 10}"/>')
        parts.append(f'<text x="{x(value):.1f}" y="{SIZE + 28}" text-anchor="middle">{across.text(value)}</text>')
    start, end = max(across.low, up.low), min(across.high, up.high)
    if start < end:
        parts.append(
            f'<line class="grid" stroke-dasharray="4 4" x1="{x(start):.1f}" y1="{y(start):.1f}" x2="{x(end):.1f}" '
            f'y2="{y(end):.1f}"/><text x="{LEFT + SIZE + 12}" y="{SIZE + 28}">dashed: rPC = 1</text>'
        )
    parts.append(f'<text x="{LEFT + SIZE / 2}" y="{SIZE + 50}" text-anchor="middle">clean P</text>')
    parts.append(
        f'<text x="12" y="{10 + SIZE / 2}" text-anchor="middle" transform="rotate(-90 12 {10 + SIZE / 2})">mPC</text>'
    )
    styles = {name: f'var(--{COLOURS[number % len(COLOURS)]})' for number, (name, _, _) in enumerate(points)}
    parts.extend(
        f'<circle cx="{x(clean):.1f}" cy="{y(mpc):.1f}" r="6" style="fill:{styles[name]}">'
        f'<title>{escape(name)}: clean {value_text(clean, top=top)}, mPC {value_text(mpc, top=top)}</title></circle>'
        for name, clean, mpc in points
    )
    parts.extend(
        f'<text x="{LEFT + SIZE + 12}" y="{place + 4:.1f}" style="fill:{styles[name]};font-weight:600">'
        f'{escape(name)}</text>'
        for place, name in spread_labels([(y(mpc), name) for name, _, mpc in points], lowest=SIZE + 10)
    )
    return ''.join(parts) + '</svg>'
