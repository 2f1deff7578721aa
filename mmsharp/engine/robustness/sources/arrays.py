"""Corrupted images out of arrays, as CIFAR-10-C is released."""

import os
from typing import Any

from mmsharp.datasets.transforms import CurrentCell, TakeCurrentCell
from mmsharp.engine.configs.pipelines import insert_after, is_loading
from mmsharp.engine.robustness.sources.source import Placement, Position, Reading
from mmsharp.errors import MmsharpError
from mmsharp.robustness import Cell, CorruptedArrays, Grid, check_cells


class FromArrays:
    """The picture of the cell takes the place of the clean one, before everything that the pipeline does to it.

    Args:
        root: The folder; see :class:`mmsharp.robustness.CorruptedArrays`.

    Raises:
        MmsharpError: It holds no such arrays, or one is damaged.
    """

    position: Position | None = 'after_loading'
    constants = ('cifar',)

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.arrays = CorruptedArrays(root)

    def identity(self) -> dict[str, Any]:
        """The names of the arrays and the labels, wherever the folder stands."""
        return {'source': 'arrays', 'constants': 'cifar', 'arrays_sha256': self.arrays.digest()}

    def readings(self, grid: Grid) -> tuple[Reading, ...]:
        """The clean one: the others have no files of their own."""
        return (Reading(Cell.clean()),)

    def check(self, grid: Grid) -> None:
        """Refuse cells that are not there; the labels were compared when the transform was inserted."""
        check_cells(grid.cells, self.arrays.cells, self.arrays.root)

    def prepare(self, grid: Grid, dataset: Any, current: CurrentCell) -> None:
        """Refuse cells that are not there."""
        self.check(grid)

    def insert(self, dataset: Any, transforms: list[Any], current: CurrentCell, placement: Placement) -> None:
        """Insert the transform behind the loading or, where the dataset holds arrays itself, at the beginning.

        Raises:
            MmsharpError: The images of the dataset are in another order, or resize and crop are to be left out.
        """
        if placement.position != 'after_loading':
            raise MmsharpError('images out of arrays go through the whole pipeline: position after_loading, or auto')
        if not hasattr(dataset, 'get_gt_labels'):
            raise MmsharpError(f'{type(dataset).__name__} has no labels to compare with those of {self.arrays.root}')
        self.arrays.check_labels(dataset.get_gt_labels().tolist())
        take = TakeCurrentCell(current, self.arrays, placement.image_order)
        if not insert_after(transforms, take, is_loading):
            transforms.insert(0, take)
