"""A heat map of corruption by severity as an HTML table: values are printed, colour is an aid."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from mmsharp.robustness import CORRUPTIONS, FAMILIES
from mmsharp.visualization.numbers import value_text
from mmsharp.visualization.page import escape

Colour = tuple[float, float, float]
Scale = Callable[[float], Colour]

VIRIDIS: tuple[Colour, ...] = (
    *((68, 1, 84), (71, 45, 123), (59, 82, 139), (44, 114, 142), (33, 145, 140)),
    *((40, 174, 128), (94, 201, 98), (173, 220, 48), (253, 231, 37)),
)
WORSE_BETTER: tuple[Colour, ...] = ((178, 24, 43), (239, 138, 98), (247, 247, 247), (103, 169, 207), (33, 102, 172))


def sequential(top: float) -> Scale:
    """Colours from 0 (dark violet) to ``top`` (yellow); equal steps look equal, also to colour-blind readers."""
    return lambda value: _mix(VIRIDIS, value / top if top > 0 else 0.0)


def diverging(reach: float) -> Scale:
    """Colours from ``-reach`` (red) over 0 (white) to ``reach`` (blue)."""
    return lambda value: _mix(WORSE_BETTER, 0.5 + (value / reach if reach > 0 else 0.0) / 2)


def heat_map(
    values: Mapping[tuple[str, int], float | None],
    corruptions: Sequence[str],
    severities: Sequence[int],
    scale: Scale,
    signed: bool = False,
    top: float | None = None,
) -> str:
    """Return the table, corruptions in their families down, severities across, and the mean of each row.

    A missing cell is drawn as a gap, and a row with a gap has no mean. ``top`` is what the numbers are a part of, see
    :func:`~mmsharp.visualization.numbers.value_text`; by default the largest of them.

    Example:
        >>> '0.500' in heat_map({('fog', 1): 0.5}, ['fog'], [1], sequential(1.0))
        True
    """
    if top is None:
        top = max((abs(value) for value in values.values() if value is not None), default=1.0)
    head = ''.join(f'<th scope="col">{level}</th>' for level in severities)
    lines = [f'<tr><th scope="col">severity</th>{head}<th scope="col">mean</th></tr>']
    for family, members in _families(corruptions):
        lines.append(f'<tr><th class="family" colspan="{len(severities) + 2}">{escape(family)}</th></tr>')
        for name in members:
            row = [values.get((name, level)) for level in severities]
            known = [value for value in row if value is not None]
            mean = sum(known) / len(known) if known and len(known) == len(row) else None
            cells = ''.join(
                _cell(value, scale, signed, top, f'{name}, severity {level}')
                for value, level in zip(row, severities, strict=True)
            )
            lines.append(
                f'<tr><th class="row" scope="row">{escape(name)}</th>{cells}'
                f'{_cell(mean, scale, signed, top, f"{name}, mean", "mean")}</tr>'
            )
    rows = '\n'.join(lines)
    return f'<div class="wide"><table class="heat">\n{rows}\n</table></div>'


def _families(corruptions: Sequence[str]) -> Iterable[tuple[str, list[str]]]:
    kinds = {item.name: 'held out' if item.holdout else item.family for item in CORRUPTIONS}
    for family in (*FAMILIES, 'held out'):
        members = [name for name in corruptions if kinds[name] == family]
        if members:
            yield family, members


def _cell(value: float | None, scale: Scale, signed: bool, top: float, title: str, kind: str = '') -> str:
    if value is None:
        return f'<td class="missing" title="{escape(title)}: missing">–</td>'
    red, green, blue = (round(part) for part in scale(value))
    ink = '#000' if _luminance(red, green, blue) > 0.179 else '#fff'
    return (
        f'<td class="{kind}" style="background:rgb({red},{green},{blue});color:{ink}" title="{escape(title)}">'
        f'{value_text(value, signed, top)}</td>'
    )


def _luminance(*channels: int) -> float:
    """Relative luminance of WCAG 2; above 0.179 black has more contrast than white, whatever the page's colours are."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (channel / 255 for channel in channels)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _mix(colours: Sequence[Colour], position: float) -> Colour:
    place = min(max(position, 0.0), 1.0) * (len(colours) - 1)
    low = min(int(place), len(colours) - 2)
    part = place - low
    first, second = colours[low], colours[low + 1]
    red, green, blue = (a + (b - a) * part for a, b in zip(first, second, strict=True))
    return red, green, blue
