"""What the evaluation asks of a source of corrupted images."""

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


@dataclass(frozen=True)
class Placement:
    """Where the corruption went, and how the images lie there; part of the identity of the results."""

    position: Position
    image_order: ChannelOrder


class CorruptionSource(Protocol):
    """Where corrupted images come from: computed, or read from a disk."""

    @property
    def position(self) -> Position | None:
        """The position that the images of the source are made for; ``None`` where they fit any."""

    def identity(self) -> dict[str, Any]:
        """What tells its images from those of another source, in JSON types."""

    def cells_to_read(self, grid: Grid) -> tuple[Cell, ...]:
        """The cells whose images have to be read to know that all can be."""

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
