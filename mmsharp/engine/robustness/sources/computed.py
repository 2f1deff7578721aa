"""Corrupted images computed from the clean ones, while they are evaluated."""

from typing import Any

from mmsharp.datasets.transforms import CorruptCurrentCell, CurrentCell
from mmsharp.engine.pipelines import insert_after, is_a, is_loading
from mmsharp.engine.robustness.sources.source import GEOMETRIC, Placement, Position
from mmsharp.errors import MmsharpError
from mmsharp.robustness import Cell, Grid, OnTheFly, prepare, settle_constants


class Computed:
    """A transform behind the loading, or behind resize and crop, that corrupts.

    Args:
        settings: Seed, order of channels, whose functions and which constants.
    """

    position: Position | None = None

    def __init__(self, settings: OnTheFly) -> None:
        self.settings = settings

    def identity(self) -> dict[str, Any]:
        """The settings, with the constants that they come to."""
        settings = self.settings
        return {
            'source': 'computed',
            'seed': settings.seed,
            'channel_order': settings.channel_order,
            'backend': settings.backend,
            'constants': settle_constants(settings.backend, settings.constants),
        }

    def cells_to_read(self, grid: Grid) -> tuple[Cell, ...]:
        """The clean one: the others have no files of their own."""
        return (Cell.clean(),)

    def prepare(self, grid: Grid, dataset: Any, current: CurrentCell) -> None:
        """Compile and load what the corruptions need, once for all workers."""
        prepare(grid.corruptions, self.settings.backend)

    def insert(self, dataset: Any, transforms: list[Any], current: CurrentCell, placement: Placement) -> None:
        """Insert the transform.

        Raises:
            MmsharpError: A position behind the loading is asked for, and nothing loads.
        """
        root = getattr(dataset, 'data_root', None)
        corrupt = CorruptCurrentCell(current, self.settings, placement.image_order, root)
        if placement.position == 'after_crop' and insert_after(transforms, corrupt, lambda item: is_a(item, GEOMETRIC)):
            return
        if insert_after(transforms, corrupt, is_loading):
            return
        if placement.position == 'after_crop':
            transforms.insert(0, corrupt)
            return
        raise MmsharpError(
            f'no loading transform found in the pipeline of {type(dataset).__name__} '
            f'({", ".join(type(transform).__name__ for transform in transforms)}); '
            'the corruption goes right after it. Put a LoadImageFromFile there'
        )
