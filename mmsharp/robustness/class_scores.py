"""Scores per class, and the mean of per-class ratios.

    rPC_k = mPC_k / P_k                 of class k
    mean class rPC = 1/K sum_k rPC_k    over the K classes with P_k > 0

The ratio of means, ``rPC = mPC / P``, is the definition of Michaelis et al. 2019 (arXiv 1907.07484, eq. 3); the VOC
branch of the code that they published averages ratios per class, which is another number. Both are given, by name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mmsharp.robustness.grid import Cell, Grid
from mmsharp.robustness.results import CellResult
from mmsharp.robustness.scores import score

CLASS_PREFIX = 'class/'
"""How the metrics of a cell that are values of one class are called."""


@dataclass(frozen=True)
class ClassScore:
    """Clean value, mean over the corrupted cells, and their ratio, of one class; ``None`` where undefined."""

    clean: float | None
    mpc: float | None
    rpc: float | None


@dataclass(frozen=True)
class ClassScores:
    """The scores of every class by name, and the mean of their ratios with the number of classes that have one."""

    classes: dict[str, ClassScore]
    mean_class_rpc: float | None
    over: int

    def to_dict(self) -> dict[str, Any]:
        """The scores in JSON types."""
        return asdict(self)


def class_scores(results: Iterable[CellResult], grid: Grid) -> ClassScores | None:
    """Compute the scores of every class whose values the cells hold as ``class/<name>``.

    Args:
        results: Finished cells.
        grid: The cells that were asked for.

    Returns:
        The scores; ``None`` where no cell has values per class. The mean ratio is ``None`` where no class was ever
        right, and where a class that was has a gap.

    Example:
        >>> cells = {Cell.clean(): (0.8, 0.5), Cell('fog', 3): (0.4, 0.5)}
        >>> results = [CellResult(cell, {'class/cat': a, 'class/dog': b}, 9, 1.0) for cell, (a, b) in cells.items()]
        >>> scores = class_scores(results, Grid.of('fog', [0, 3]))
        >>> scores.classes['cat'].rpc, scores.mean_class_rpc
        (0.5, 0.75)
    """
    results = list(results)
    names = list(dict.fromkeys(name for result in results for name in result.metrics if name.startswith(CLASS_PREFIX)))
    if not names:
        return None
    classes = {}
    for name in names:
        values: Mapping[Cell, float | None] = {result.cell: result.metrics.get(name) for result in results}
        scores = score(values, grid)
        classes[name.removeprefix(CLASS_PREFIX)] = ClassScore(scores.clean, scores.mpc, scores.rpc)
    counted = [found for found in classes.values() if found.clean]
    ratios = [found.rpc for found in counted if found.rpc is not None]
    complete = bool(ratios) and len(ratios) == len(counted)
    return ClassScores(classes, sum(ratios) / len(ratios) if complete else None, len(ratios))
