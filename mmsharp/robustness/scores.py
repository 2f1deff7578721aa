"""Scores of a corruption grid, averaged by name and never over a gap.

    P   = value on the clean images
    mPC = 1/N_c sum_c 1/N_s sum_s P_{c,s}        over benchmark corruptions c, severities s = 1..5, not clean
    rPC = mPC / P

Source: Michaelis et al. 2019 (arXiv 1907.07484) for detection; on accuracy, mPC is ImageNet-C's mean corrupted accuracy
and rPC is AdaSAP's ``R_C = acc_C / acc_val`` (arXiv 2306.14306). rPC is the ratio of means; the VOC branch of the
authors' code averages ratios per class instead, which is another number. An average over a chosen part of the benchmark
carries ``subset=True``, since it is not comparable with published figures.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mmsharp.robustness.corruptions import BENCHMARK, FAMILY_MEMBERS, HOLDOUT
from mmsharp.robustness.grid import Cell, Grid


@dataclass(frozen=True)
class Scores:
    """What a grid says about a model; a value is ``None`` where one of its cells is missing or was not asked for.

    ``corruptions``, ``families`` and ``severities`` hold means over the grid's severities, over the family's benchmark
    corruptions in the grid, and over the corruptions that mPC runs over. ``holdout`` is the mean over the held-out
    corruptions in the grid. ``over`` names the corruptions of mPC: the benchmark ones in the grid or, where there are
    none, the held-out ones.
    """

    clean: float | None
    mpc: float | None
    rpc: float | None
    families: dict[str, float | None]
    severities: dict[int, float | None]
    corruptions: dict[str, float | None]
    holdout: float | None
    over: tuple[str, ...]
    subset: bool
    missing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The scores in JSON types; severities become text keys."""
        record = asdict(self)
        record['severities'] = {str(level): value for level, value in self.severities.items()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in record.items()}


def score(values: Mapping[Cell, float | None], grid: Grid) -> Scores:
    """Compute the scores of one metric over a grid.

    Args:
        values: The metric per finished cell, in its own unit (a fraction or per cent). ``None`` is an undefined value
            and counts as missing. Cells outside the grid are ignored.
        grid: The cells that were asked for.

    Returns:
        The scores; an average that touches a missing cell is ``None`` and the cell is listed in ``missing``.

    Example:
        >>> grid = Grid.of(['fog', 'snow'], [0, 1, 2])
        >>> values = {Cell.clean(): 0.8, Cell('fog', 1): 0.6, Cell('fog', 2): 0.4, Cell('snow', 1): 0.2}
        >>> scores = score({**values, Cell('snow', 2): 0.4}, grid)
        >>> round(scores.mpc, 6), round(scores.rpc, 6), scores.subset
        (0.4, 0.5, True)
        >>> scores = score(values, grid)
        >>> scores.mpc is None, scores.missing, round(scores.corruptions['fog'], 6)
        (True, ('snow/2',), 0.5)
    """

    def mean(names: Iterable[str], levels: Iterable[int]) -> float | None:
        levels = tuple(levels)
        found = [values.get(Cell(name, level)) for name in names for level in levels]
        numbers = [value for value in found if value is not None]
        return sum(numbers) / len(numbers) if numbers and len(numbers) == len(found) else None

    chosen = set(grid.corruptions)
    over = tuple(name for name in BENCHMARK if name in chosen) or grid.corruptions
    clean = values.get(Cell.clean()) if grid.clean else None
    mpc = mean(over, grid.severities)
    families = {family: [name for name in names if name in chosen] for family, names in FAMILY_MEMBERS.items()}
    return Scores(
        clean=clean,
        mpc=mpc,
        rpc=mpc / clean if mpc is not None and clean else None,
        families={family: mean(names, grid.severities) for family, names in families.items() if names},
        severities={level: mean(over, [level]) for level in grid.severities},
        corruptions={name: mean([name], grid.severities) for name in grid.corruptions},
        holdout=mean([name for name in HOLDOUT if name in chosen], grid.severities),
        over=over,
        subset=not grid.is_benchmark,
        missing=tuple(str(cell) for cell in grid.cells if values.get(cell) is None),
    )
