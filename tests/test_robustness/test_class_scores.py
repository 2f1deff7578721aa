"""Scores per class against a table worked out by hand."""

import pytest

from mmsharp.robustness import Cell, CellResult, Grid, class_scores, summarize

GRID = Grid.of(['fog', 'snow'], [0, 1, 2])
CELLS = {
    Cell.clean(): {'mAP': 0.5, 'class/cat': 0.8, 'class/dog': 0.2, 'class/emu': 0.0},
    Cell('snow', 1): {'mAP': 0.4, 'class/cat': 0.6, 'class/dog': 0.2, 'class/emu': 0.1},
    Cell('snow', 2): {'mAP': 0.2, 'class/cat': 0.4, 'class/dog': 0.1, 'class/emu': 0.0},
    Cell('fog', 1): {'mAP': 0.3, 'class/cat': 0.8, 'class/dog': 0.2, 'class/emu': 0.0},
    Cell('fog', 2): {'mAP': 0.1, 'class/cat': 0.2, 'class/dog': 0.1, 'class/emu': 0.0},
}


def _results(cells):
    return {cell: CellResult(cell, metrics, 10, 1.0) for cell, metrics in cells.items()}


def test_both_readings_of_rpc_against_a_longhand_table():
    """cat: 0.5 / 0.8 = 0.625; dog: 0.15 / 0.2 = 0.75; emu has no clean value to divide by. The two differ."""
    summary = summarize(_results(CELLS), GRID, {})
    found = summary['by_class']
    assert found['classes']['cat'] == pytest.approx({'clean': 0.8, 'mpc': 0.5, 'rpc': 0.625})
    assert found['classes']['dog'] == pytest.approx({'clean': 0.2, 'mpc': 0.15, 'rpc': 0.75})
    assert found['classes']['emu'] == {'clean': 0.0, 'mpc': pytest.approx(0.025), 'rpc': None}
    assert found['mean_class_rpc'] == pytest.approx((0.625 + 0.75) / 2)
    assert found['over'] == 2
    assert summary['scores']['rpc'] == pytest.approx(0.25 / 0.5)


def test_a_gap_makes_the_mean_undefined_and_the_other_classes_stay():
    """A class without a value in one cell."""
    cells = {**CELLS, Cell('fog', 2): {'mAP': 0.1, 'class/cat': None, 'class/dog': 0.1, 'class/emu': 0.0}}
    scores = class_scores(_results(cells).values(), GRID)
    assert scores.classes['cat'].mpc is None
    assert scores.classes['dog'].rpc == pytest.approx(0.75)
    assert scores.mean_class_rpc is None


def test_without_values_per_class_there_are_no_scores():
    """And a class is never taken for the metric."""
    cells = {cell: {'mAP': metrics['mAP']} for cell, metrics in CELLS.items()}
    assert class_scores(_results(cells).values(), GRID) is None
    assert summarize(_results(cells), GRID, {})['by_class'] is None
    only = {Cell.clean(): {'odd': 0.5, 'class/mAP': 0.1}}
    assert summarize(_results(only), Grid.of('fog', [0]), {})['metric'] == 'odd'
