"""The corruption grid: its cells, in the order in which they are evaluated."""

from collections.abc import Iterable
from dataclasses import dataclass

from mmsharp.errors import MmsharpError
from mmsharp.robustness.corruptions import BENCHMARK, NAMES, SEVERITIES, check_severity, select

CLEAN = 'clean'


@dataclass(frozen=True, order=True)
class Cell:
    """One pass over the data: a corruption and a severity; the clean pass is ``Cell('clean', 0)``.

    Raises:
        MmsharpError: If the corruption is unknown, or a severity is out of range, or only one of the two is clean.

    Example:
        >>> str(Cell('fog', 3)), str(Cell.clean())
        ('fog/3', 'clean')
    """

    corruption: str
    severity: int

    def __post_init__(self) -> None:
        check_severity(self.severity)
        if (self.corruption == CLEAN) != (self.severity == 0):
            raise MmsharpError(f"severity 0 is the one cell ('clean', 0); got ({self.corruption!r}, {self.severity})")
        if self.corruption != CLEAN and self.corruption not in NAMES:
            select(self.corruption)
            raise MmsharpError(f'a cell holds one corruption; {self.corruption!r} is a group')

    @classmethod
    def clean(cls) -> 'Cell':
        """The cell of the untouched images."""
        return cls(CLEAN, 0)

    @property
    def is_clean(self) -> bool:
        """Whether this is the cell of the untouched images."""
        return self.severity == 0

    def __str__(self) -> str:
        return CLEAN if self.is_clean else f'{self.corruption}/{self.severity}'


@dataclass(frozen=True)
class Grid:
    """Corruptions times severities, and the clean cell where it is wanted.

    Example:
        >>> grid = Grid.of(['fog', 'snow'], [0, 1, 5])
        >>> [str(cell) for cell in grid.cells]
        ['clean', 'snow/1', 'snow/5', 'fog/1', 'fog/5']
        >>> grid.is_benchmark
        False
    """

    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    clean: bool = True

    @classmethod
    def of(cls, corruptions: str | Iterable[str], severities: Iterable[int]) -> 'Grid':
        """Build a grid from what a user wrote; severity 0 asks for the clean cell.

        Raises:
            MmsharpError: If a corruption is unknown, a severity out of range, or there is no severity.
        """
        levels = sorted({check_severity(severity) for severity in severities})
        if not levels:
            raise MmsharpError('no severity chosen; give some of 0 1 2 3 4 5 (0 is clean)')
        corrupted = tuple(level for level in levels if level > 0)
        return cls(select(corruptions), corrupted, clean=levels[0] == 0)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, the clean one first, then corruption by corruption with rising severity."""
        clean = (Cell.clean(),) if self.clean else ()
        return clean + tuple(Cell(name, level) for name in self.corruptions for level in self.severities)

    @property
    def is_benchmark(self) -> bool:
        """Whether the whole benchmark is in: all 15 corruptions and all five severities (more may be in too)."""
        return set(BENCHMARK) <= set(self.corruptions) and self.severities == SEVERITIES
