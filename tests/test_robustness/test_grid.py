"""A grid is corruptions times severities, and one clean cell."""

import pytest

from mmsharp.errors import MmsharpError
from mmsharp.robustness import BENCHMARK, Cell, Grid


def test_full_benchmark_has_76_cells():
    """Clean is one cell, first, not one per corruption."""
    grid = Grid.of('benchmark', range(6))
    assert len(grid.cells) == len(set(grid.cells)) == 76
    assert grid.cells[0] == Cell.clean()
    assert [cell.corruption for cell in grid.cells[1::5]] == list(BENCHMARK)
    assert grid.is_benchmark


def test_a_part_is_no_benchmark_and_more_still_is():
    """Only a grid that contains the whole benchmark bears its name."""
    assert not Grid.of('benchmark', [0, 1, 3]).is_benchmark
    assert not Grid.of('noise', range(6)).is_benchmark
    assert Grid.of('all', range(1, 6)).is_benchmark


@pytest.mark.parametrize(
    'make',
    [
        lambda: Cell('clean', 1),
        lambda: Cell('fog', 0),
        lambda: Cell('noise', 1),
        lambda: Cell('frog', 1),
        lambda: Grid.of('fog', [6]),
        lambda: Grid.of('fog', []),
    ],
)
def test_impossible_cells_are_refused(make):
    """A cell is a known corruption with a severity of 1 to 5, or clean."""
    with pytest.raises(MmsharpError):
        make()
