"""Corrupted images computed from the clean ones, while they are evaluated."""

from typing import Any

from mmsharp.datasets.transforms import ConstantsSeen, CorruptCurrentCell, CurrentCell
from mmsharp.engine.configs.pipelines import held_array, insert_after, is_a, is_loading, walk
from mmsharp.engine.robustness.small_images import refuse_small_images
from mmsharp.engine.robustness.sources.source import GEOMETRIC, TO_ARRAY, TO_PIL, Placement, Position, Reading
from mmsharp.errors import MmsharpError
from mmsharp.robustness import Cell, Grid, OnTheFly, prepare, settle_constants


class Computed:
    """A transform behind the loading, or behind resize and crop, that corrupts.

    Datasets that hold arrays load nothing: behind the loading is then the beginning. Resize and crop of torchvision
    work on PIL pictures, and the corruption goes behind the transform that makes an array of them again.

    Args:
        settings: Seed, order of channels, whose functions and which constants.
    """

    position: Position | None = None

    def __init__(self, settings: OnTheFly) -> None:
        self.settings = settings
        self._seen = ConstantsSeen()
        self._datasets: list[tuple[Any, bool]] = []

    @property
    def constants(self) -> tuple[str, ...]:
        """What the settings came to, image by image."""
        return self._seen.names

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

    def readings(self, grid: Grid) -> tuple[Reading, ...]:
        """The clean cell: the others have no files of their own, but images are too small for all of them alike."""
        return (Reading(Cell.clean(), sized=bool(grid.severities)),)

    def check(self, grid: Grid) -> None:
        """Everything can be computed."""

    def prepare(self, grid: Grid, dataset: Any, current: CurrentCell) -> None:
        """Compile and load what the corruptions need, once for all workers; refuse images that are too small for them.

        Raises:
            MmsharpError: Naming the first such image that shows without reading all of them.
        """
        prepare(grid.corruptions, self.settings.backend)
        if grid.severities:
            refuse_small_images(self._datasets, current)

    def insert(self, dataset: Any, transforms: list[Any], current: CurrentCell, placement: Placement) -> None:
        """Insert the transform.

        Raises:
            MmsharpError: A position behind the loading is asked for, and nothing loads; or there is no array behind
                resize and crop.
        """
        root = getattr(dataset, 'data_root', None)
        corrupt = CorruptCurrentCell(current, self.settings, placement.image_order, root, self._seen)
        resized = placement.position == 'after_crop' and any(is_a(item, GEOMETRIC) for item in walk(transforms))
        self._datasets.append((dataset, not resized))
        if resized:
            kinds = [kind for item in walk(transforms) for kind in (TO_PIL, TO_ARRAY) if is_a(item, (kind,))]
            if kinds and kinds[-1] == TO_PIL:
                raise MmsharpError(
                    f'resize and crop in the pipeline of {type(dataset).__name__} leave a PIL picture, and corruptions '
                    f'are computed on arrays; put a {TO_ARRAY} behind them, or give position after_loading'
                )
            insert_after(transforms, corrupt, lambda item: is_a(item, (*GEOMETRIC, TO_ARRAY)))
            return
        if insert_after(transforms, corrupt, is_loading):
            return
        if placement.position == 'after_crop' or held_array(dataset) is not None:
            transforms.insert(0, corrupt)
            return
        raise MmsharpError(
            f'no loading transform found in the pipeline of {type(dataset).__name__} '
            f'({", ".join(type(transform).__name__ for transform in transforms)}); '
            'the corruption goes right after it. Put a LoadImageFromFile there'
        )
