"""How numbers are written in tables and reports: always the same way, and a dash for what is not known."""

from collections.abc import Mapping
from typing import Any

DASH = '–'


def value_text(value: float | None, signed: bool = False, top: float | None = None) -> str:
    """A metric's value: three digits after the point for fractions, one for per cents.

    Args:
        value: To be written.
        signed: Whether with its sign, as differences are.
        top: The largest value beside it, which says whether all of them are fractions; by default the value itself.

    Example:
        >>> value_text(0.4567), value_text(81.25), value_text(-0.01, signed=True), value_text(None)
        ('0.457', '81.2', '-0.010', '–')
        >>> value_text(0.8, top=76.1)
        '0.8'
    """
    if value is None:
        return DASH
    digits = 3 if abs(value if top is None else top) <= 1 else 1
    return format(value, f'{"+" if signed else ""}.{digits}f')


def top_of(summary: Mapping[str, Any]) -> float | None:
    """The largest value of a summary's cells, the clean one among them; ``None`` where there is none.

    Example:
        >>> top_of({'cells': [{'value': 76.1}, {'value': 0.8}, {'value': None}]})
        76.1
    """
    return max((cell['value'] for cell in summary['cells'] if cell['value'] is not None), default=None)


def percent_text(ratio: float | None) -> str:
    """A ratio in per cent.

    Example:
        >>> percent_text(0.6234)
        '62.3 %'
    """
    return DASH if ratio is None else f'{100 * ratio:.1f} %'


def count_text(count: float | None) -> str:
    """A large count with a unit prefix.

    Example:
        >>> count_text(1_234_567), count_text(2.5e9), count_text(900)
        ('1.23 M', '2.50 G', '900')
    """
    if count is None:
        return DASH
    for size, unit in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if count >= size:
            return f'{count / size:.2f} {unit}'
    return f'{count:.0f}'


def milliseconds_text(milliseconds: float | None) -> str:
    """A duration in milliseconds.

    Example:
        >>> milliseconds_text(12.345)
        '12.3 ms'
    """
    return DASH if milliseconds is None else f'{milliseconds:.1f} ms'
