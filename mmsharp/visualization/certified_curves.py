"""The share of certified images over the failure rate, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mmsharp.visualization.numbers import percent_text
from mmsharp.visualization.page import escape

WIDTH, HEIGHT = 400, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 42
LOWEST = 1e-5
CURVES = {
    'bound': ('PCA (CC-Cert)', 'var(--noise)', '6 4'),
    'capped_bound': ('PCA, capped', 'var(--blur)', '2 3'),
    'exact_bound': ('exact', 'var(--weather)', ''),
}
"""By the name of the bound: what it is called, its colour, and its dashes."""


def certified_curves(bounds: Mapping[str, Sequence[float]], images: int, smallest_rate: float, title: str) -> str:
    """Draw what share of all images has a bound below each failure rate, from 1e-5 to 1.

    What the draws cannot speak of is shaded.

    Args:
        bounds: Per kind of bound those of the images that are classified rightly.
        images: How many were certified, right or wrong.
        smallest_rate: The failure rate below which is shaded; 0 for none.
        title: For those who do not see it.

    Example:
        >>> certified_curves({'exact_bound': [0.01, 0.1]}, 2, 0.005, 'rotation:10').count('<path')
        1
    """

    def across(rate: float) -> float:
        part = math.log10(max(rate, LOWEST) / LOWEST) / -math.log10(LOWEST)
        return LEFT + (WIDTH - LEFT - RIGHT) * part

    def up(share: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="certified images over the failure rate, {escape(title)}">'
    ]
    if smallest_rate > LOWEST:
        parts.append(
            f'<rect x="{LEFT}" y="{TOP}" width="{across(min(smallest_rate, 1.0)) - LEFT:.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}" style="fill:var(--line);opacity:.6"><title>not supported by the '
            f'draws: rates below {smallest_rate:.3g}</title></rect>'
        )
    for step in range(5):
        share = step / 4
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(share):.1f}" y2="{up(share):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{up(share) + 4:.1f}" text-anchor="end">{100 * share:.0f} %</text>')
    for power in range(round(math.log10(LOWEST)), 1):
        place = across(10.0**power)
        parts.append(f'<text x="{place:.1f}" y="{HEIGHT - 24}" text-anchor="middle">{10.0**power:g}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.1f}" y="{HEIGHT - 6}" text-anchor="middle">eps</text>')
    for name, values in bounds.items():
        label, colour, dashes = CURVES[name]
        steps = [(LOWEST, sum(value < LOWEST for value in values) / images)]
        for count, value in enumerate(sorted(values), start=1):
            if LOWEST <= value < 1:
                steps += [(value, steps[-1][1]), (value, count / images)]
        steps.append((1.0, steps[-1][1]))
        line = ' '.join(f'{across(rate):.1f},{up(share):.1f}' for rate, share in steps)
        parts.append(
            f'<path d="M{line}" fill="none" style="stroke:{colour}" stroke-width="2" stroke-dasharray="{dashes}">'
            f'<title>{escape(label)}: {percent_text(steps[-1][1])} at eps 1</title></path>'
        )
    return ''.join(parts) + '</svg>'


def curve_legend() -> str:
    """What the lines are, as HTML.

    Example:
        >>> curve_legend().count('<line')
        3
    """
    lines = ''.join(
        f'<span><svg width="34" height="8" aria-hidden="true"><line x1="0" x2="32" y1="4" y2="4" '
        f'style="stroke:{colour}" stroke-width="2" stroke-dasharray="{dashes}"/></svg> {escape(label)}</span> &ensp; '
        for label, colour, dashes in CURVES.values()
    )
    return f'<p class="soft">{lines} shaded: rates that the draws cannot speak of</p>'
