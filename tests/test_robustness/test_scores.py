"""Averages are by name, over complete sets of cells."""

import itertools
import random

import pytest

from mmsharp.robustness import BENCHMARK, FAMILY_MEMBERS, Cell, Grid, score


def _values(grid, clean=0.8):
    """Distinct values: 0.01 per position of the corruption, less 0.05 per severity."""
    values = {
        Cell(name, level): 0.5 + 0.01 * position - 0.05 * level
        for (position, name), level in itertools.product(enumerate(grid.corruptions), grid.severities)
    }
    return {Cell.clean(): clean, **values}


def test_mpc_and_rpc_longhand():
    """Two corruptions, three severities: the means written out."""
    grid = Grid.of(['shot_noise', 'fog'], [0, 1, 3, 5])
    table = {('shot_noise', 1): 60.0, ('shot_noise', 3): 40.0, ('shot_noise', 5): 20.0}
    table.update({('fog', 1): 70.0, ('fog', 3): 60.0, ('fog', 5): 35.0})
    scores = score({Cell.clean(): 80.0, **{Cell(*key): value for key, value in table.items()}}, grid)
    assert scores.corruptions == {'shot_noise': 40.0, 'fog': 55.0}
    assert scores.mpc == 47.5
    assert scores.rpc == 0.59375
    assert scores.families == {'noise': 40.0, 'weather': 55.0}
    assert scores.severities == {1: 65.0, 3: 50.0, 5: 27.5}
    assert scores.subset
    assert scores.missing == ()


def test_full_benchmark_leaves_the_holdout_out():
    """The mPC runs over the 15 benchmark corruptions, also where all 19 were evaluated."""
    grid = Grid.of('all', range(6))
    values = _values(grid)
    scores = score(values, grid)
    expected = sum(values[Cell(name, level)] for name in BENCHMARK for level in range(1, 6)) / 75
    assert scores.mpc == pytest.approx(expected, abs=1e-12)
    assert scores.over == BENCHMARK
    assert not scores.subset
    assert scores.holdout == pytest.approx(sum(0.5 + 0.01 * p - 0.15 for p in range(15, 19)) / 4)
    noise = [values[Cell(name, level)] for name in FAMILY_MEMBERS['noise'] for level in range(1, 6)]
    assert scores.families['noise'] == pytest.approx(sum(noise) / 15)


def test_order_of_the_results_does_not_matter():
    """The mapping's order changes nothing, bit for bit."""
    grid = Grid.of('benchmark', range(6))
    values = _values(grid)
    shuffled = list(values.items())
    random.Random(0).shuffle(shuffled)
    assert score(dict(shuffled), grid) == score(values, grid)


@pytest.mark.parametrize('gap', ['absent', 'undefined'])
def test_a_gap_is_listed_and_never_averaged(gap):
    """Every average that touches a missing cell is None; the others stand."""
    grid = Grid.of('benchmark', range(6))
    values = _values(grid)
    complete = score(values, grid)
    if gap == 'absent':
        del values[Cell('fog', 2)]
    else:
        values[Cell('fog', 2)] = None
    scores = score(values, grid)
    assert scores.missing == ('fog/2',)
    assert scores.mpc is scores.rpc is scores.corruptions['fog'] is scores.families['weather'] is None
    assert scores.severities[2] is None
    assert scores.severities[1] == complete.severities[1]
    assert scores.families['blur'] == complete.families['blur']


def test_no_clean_cell_no_ratio():
    """Without a clean value there is an mPC and no rPC; a clean value of zero gives no ratio either."""
    grid = Grid.of('fog', [1, 2])
    scores = score({Cell('fog', 1): 0.2, Cell('fog', 2): 0.4}, grid)
    assert (scores.clean, scores.rpc) == (None, None)
    assert scores.mpc == pytest.approx(0.3)
    grid = Grid.of('fog', [0, 1])
    assert score({Cell.clean(): 0.0, Cell('fog', 1): 0.0}, grid).rpc is None


def test_severities_zero_and_three_with_mean_one_fifth():
    """Asked for severities 0 and 3 only, the mean over severity 3 is the mean, not a fifth of it."""
    grid = Grid.of('benchmark', [0, 3])
    scores = score({Cell.clean(): 0.5, **{Cell(name, 3): 0.2 for name in BENCHMARK}}, grid)
    assert scores.mpc == pytest.approx(0.2)
