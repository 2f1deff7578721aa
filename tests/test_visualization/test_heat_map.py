"""Colours are an aid: the ink is readable on each of them, and the scales end where they should."""

import re

import pytest

from mmsharp.visualization import diverging, heat_map, sequential


def _luminance(rgb):
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (c / 255 for c in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(('scale', 'low'), [(sequential(1.0), 0.0), (diverging(1.0), -1.0)])
def test_ink_has_the_contrast_that_wcag_asks_for(scale, low):
    """At least 4.5 to 1 on every colour of both scales."""
    for step in range(101):
        value = low + (1.0 - low) * step / 100
        cell = heat_map({('fog', 1): value}, ['fog'], [1], scale)
        back = [int(part) for part in re.search(r'background:rgb\((\d+),(\d+),(\d+)\)', cell).groups()]
        ink = (0, 0, 0) if 'color:#000' in cell.split('background')[1][:60] else (255, 255, 255)
        light, dark = sorted((_luminance(back), _luminance(ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, value


def test_scales_are_anchored():
    """Zero of the differences is near white; values beyond the ends take the ends' colours."""
    assert diverging(0.3)(0.0) == (247, 247, 247)
    assert sequential(0.5)(0.7) == sequential(0.5)(0.5) == (253, 231, 37)
    assert sequential(0.0)(0.0) == (68, 1, 84)
