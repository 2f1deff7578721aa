"""Models that lie close together can be told apart in the figure."""

import re

import pytest

from mmsharp.visualization.clean_against_corrupted import SIZE, Axis, clean_against_corrupted


def run(name, clean, mpc):
    return {'name': name, 'scores': {'clean': clean, 'mpc': mpc}}


@pytest.mark.parametrize(
    'values', [[91.5, 93.0], [0.0, 1.0], [0.584, 0.5841], [3e-7, 5e-7], [12.0, 98.0], [0.0, 0.0], [-0.2, 0.1], [7.0]]
)
def test_an_axis_holds_its_values_between_round_ticks(values):
    """Two to nine ticks from end to end, none below zero for values that are not, texts that differ."""
    axis = Axis.around(values)
    ticks = axis.ticks()
    assert axis.low <= min(values) <= max(values) <= axis.high
    assert 2 <= len(ticks) <= 9
    assert ticks[-1] == pytest.approx(axis.high)
    assert axis.low >= 0 or min(values) < 0
    texts = [axis.text(tick) for tick in ticks]
    assert len(set(texts)) == len(texts)
    assert [float(text) for text in texts] == pytest.approx(ticks, abs=axis.step * 1e-6)


def test_close_models_use_the_whole_figure():
    """Half a point of 98 is more than a quarter of the width; two runs stay apart."""
    svg = clean_against_corrupted([run('a', 98.6, 91.5), run('b', 99.1, 93.0)])
    (x1, y1), (x2, y2) = ([float(value) for value in pair] for pair in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', svg))
    assert x2 - x1 > SIZE / 4
    assert y1 - y2 > SIZE / 4
    assert 'rPC = 1' not in svg


def test_the_line_of_unharmed_models_where_it_passes():
    """With values that overlap; names are text, not markup."""
    svg = clean_against_corrupted([run('<b>', 0.9, 0.8), run('c', 0.6, 0.3)])
    assert 'rPC = 1' in svg
    assert '&lt;b&gt;' in svg
    assert '<b>' not in svg


def test_nothing_for_a_single_point():
    """Nor for runs that lack a value."""
    assert clean_against_corrupted([run('a', 0.9, 0.8), run('b', None, 0.8), run('c', 0.9, None)]) == ''
