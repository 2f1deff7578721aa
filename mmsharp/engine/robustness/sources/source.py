"""What the evaluation asks of a source of corrupted images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mmsharp.datasets.transforms import CurrentCell
from mmsharp.robustness import Cell, ChannelOrder, Grid

Position = Literal['after_loading', 'after_crop']
GEOMETRIC = ('Resize', 'ResizeEdge', 'CenterCrop', 'EfficientNetCenterCrop', 'Pad')
"""The deterministic transforms that bring an image to the size a model takes, torchvision's included."""
TO_PIL = 'NumpyToPIL'
TO_ARRAY = 'PILToNumpy'
"""MMPretrain's transforms around those of torchvision; both may exchange the order of the channels."""


SIZED = ', sized'


@dataclass(frozen=True)
class Placement:
    """Where the corruption went, and how the images lie there; part of the identity of the results."""

    position: Position
    image_order: ChannelOrder


@dataclass(frozen=True)
class Reading:
    """A cell whose images are read to know whether all can be, and whether their size counts, too.

    Example:
        >>> str(Reading(Cell('fog', 3))), str(Reading(Cell.clean(), sized=True))
        ('fog/3', 'clean, sized')
        >>> Reading.of('clean, sized')
        Reading(cell=Cell(corruption='clean', severity=0), sized=True)
    """

    cell: Cell
    sized: bool = False

    def __str__(self) -> str:
        return f'{self.cell}{SIZED if self.sized else ""}'

    @classmethod
    def of(cls, text: str) -> Reading:
        """What was printed like that.

        Raises:
            ValueError: It is no such text.
        """
        name = text.removesuffix(SIZED)
        if name == str(Cell.clean()):
            return cls(Cell.clean(), name != text)
        corruption, _, severity = name.partition('/')
        return cls(Cell(corruption, int(severity)), name != text)


class CorruptionSource(Protocol):
    """Where corrupted images come from: computed, or read from a disk."""

    @property
    def position(self) -> Position | None:
        """The position that the images of the source are made for; ``None`` where they fit any."""

    @property
    def constants(self) -> tuple[str, ...]:
        """The tables of constants of the images corrupted so far, in this process; empty where nobody says."""

    def identity(self) -> dict[str, Any]:
        """What tells its images from those of another source, in JSON types."""

    def readings(self, grid: Grid) -> tuple[Reading, ...]:
        """What has to be read to know that all images of a grid can be."""

    def check(self, grid: Grid) -> None:
        """Refuse, without reading an image, cells that are not there and other data than the source is of.

        Raises:
            MmsharpError: Naming them.
        """

    def prepare(self, grid: Grid, dataset: Any, current: CurrentCell) -> None:
        """Be ready for these cells before workers are forked.

        Args:
            grid: The cells that are wanted.
            dataset: The whole dataset, after :meth:`insert`.
            current: The cell, which is the clean one afterwards.

        Raises:
            MmsharpError: The source does not have them, or not for this dataset.
        """

    def insert(self, dataset: Any, transforms: list[Any], current: CurrentCell, placement: Placement) -> None:
        """Change the pipeline of a dataset so that it gives the image of the current cell.

        Args:
            dataset: The dataset itself, unwrapped.
            transforms: The list that its pipeline runs through.
            current: The cell.
            placement: Where, and how the images lie there.

        Raises:
            MmsharpError: There is no place, or the source does not hold the images of the dataset.
        """
