"""Curves over severity as inline SVG."""

from collections.abc import Mapping

from mmsharp.visualization.numbers import value_text
from mmsharp.visualization.page import escape

WIDTH, HEIGHT = 480, 290
LEFT, RIGHT, TOP, BOTTOM = 44, 76, 14, 34


def severity_curves(curves: Mapping[str, Mapping[int, float | None]], colours: Mapping[str, str]) -> str:
    """Draw one curve per name over the severities; a missing value is a gap, and the name stands at the curve's end.

    Args:
        curves: Values per name and severity; severity 0 is clean.
        colours: A CSS colour per name.

    Example:
        >>> severity_curves({'noise': {0: 0.8, 1: 0.6}}, {'noise': 'red'}).startswith('<svg')
        True
    """
    levels = sorted({level for curve in curves.values() for level in curve})
    known = [value for curve in curves.values() for value in curve.values() if value is not None]
    if len(levels) < 2 or not known:
        return ''
    top = round_up(max(known))
    span = levels[-1] - levels[0]

    def across(level: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (level - levels[0]) / span

    def up(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * max(value, 0.0) / top

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="values over severity">'
    ]
    for step in range(5):
        value = top * step / 4
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(value):.1f}" y2="{up(value):.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{up(value) + 4:.1f}" text-anchor="end">{tick_text(value, top)}</text>')
    for level in levels:
        name = 'clean' if level == 0 else str(level)
        parts.append(f'<text x="{across(level):.1f}" y="{HEIGHT - 14}" text-anchor="middle">{name}</text>')
    ends: list[tuple[float, str]] = []
    for name, curve in curves.items():
        colour = escape(colours[name])
        width = 3 if name == 'mean' else 2
        for piece in _pieces(curve, levels):
            points = ' '.join(f'{across(level):.1f},{up(value):.1f}' for level, value in piece)
            parts.append(
                f'<polyline points="{points}" fill="none" style="stroke:{colour}" stroke-width="{width}" '
                'stroke-linejoin="round"/>'
            )
            parts.extend(
                f'<circle cx="{across(level):.1f}" cy="{up(value):.1f}" r="3" style="fill:{colour}">'
                f'<title>{escape(name)}, severity {level}: {value_text(value, top=max(known))}</title></circle>'
                for level, value in piece
            )
            if piece[-1][0] == levels[-1]:
                ends.append((up(piece[-1][1]), name))
    for height, name in spread_labels(ends, lowest=HEIGHT - BOTTOM + 4):
        parts.append(
            f'<text x="{WIDTH - RIGHT + 10}" y="{height + 4:.1f}" style="fill:{escape(colours[name])};font-weight:600">'
            f'{escape(name)}</text>'
        )
    return ''.join(parts) + '</svg>'


def _pieces(curve: Mapping[int, float | None], levels: list[int]) -> list[list[tuple[int, float]]]:
    pieces: list[list[tuple[int, float]]] = [[]]
    for level in levels:
        value = curve.get(level)
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append((level, value))
    return [piece for piece in pieces if piece]


def spread_labels(ends: list[tuple[float, str]], lowest: float, apart: float = 15.0) -> list[tuple[float, str]]:
    """Move labels down until none lies on another, then all of them up if the last went below ``lowest``.

    Example:
        >>> spread_labels([(10.0, 'a'), (12.0, 'b')], lowest=100.0)
        [(10.0, 'a'), (25.0, 'b')]
    """
    placed: list[tuple[float, str]] = []
    for height, name in sorted(ends):
        placed.append((max(height, placed[-1][0] + apart) if placed else height, name))
    excess = max(placed[-1][0] - lowest, 0.0) if placed else 0.0
    return [(height - excess, name) for height, name in placed]


def round_up(value: float) -> float:
    """The top of an axis: a round number not below ``value``."""
    if value <= 0:
        return 1.0
    for top in (0.01, 0.02, 0.04, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2, 4, 10, 20, 40, 60, 80, 100):
        if value <= top:
            return float(top)
    return value


def tick_text(value: float, top: float) -> str:
    """The number at a tick of an axis that ends at ``top``."""
    return f'{value:.0f}' if top >= 10 else f'{value:.3f}' if top < 0.1 else f'{value:.2f}'
