"""CIFAR-10-C as it is released: one ``<corruption>.npy`` with all severities in turn, and ``labels.npy``."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmsharp.errors import MmsharpError
from mmsharp.robustness.corruptions import NAMES, SEVERITIES
from mmsharp.robustness.grid import Cell

LABELS = 'labels.npy'


class CorruptedArrays:
    """The pictures of a folder of arrays, read where they are needed.

    Each array has the shape (5 N, H, W, 3), uint8, RGB: N images at severity 1, then the same at severity 2, and so on.

    Args:
        root: The folder.

    Raises:
        MmsharpError: The folder does not exist, holds no such arrays, or one of them is damaged or of another shape.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> np.save(root / 'labels.npy', np.tile([7, 1], 5))
        >>> np.save(root / 'fog.npy', np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1).repeat(3, axis=3))
        >>> arrays = CorruptedArrays(root)
        >>> arrays.check_labels([7, 1])
        >>> arrays.image(Cell('fog', 3), 1)
        array([[[5, 5, 5]]], dtype=uint8)
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        if not is_folder_of_arrays(self.root):
            raise MmsharpError(f'{str(self.root)!r} holds no {LABELS} beside arrays such as {NAMES[0]}.npy')
        labels = _load(self.root / LABELS)
        if labels.ndim != 1 or len(labels) == 0 or len(labels) % len(SEVERITIES):
            raise MmsharpError(
                f'{self.root / LABELS} has the shape {labels.shape}; expected one label per image and severity'
            )
        self.count = len(labels) // len(SEVERITIES)
        self.labels = np.array(labels[: self.count])
        self._arrays: dict[str, np.ndarray] = {}
        for name in NAMES:
            path = self.root / f'{name}.npy'
            if path.is_file():
                self._check(path)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells that the folder holds."""
        names = [name for name in NAMES if (self.root / f'{name}.npy').is_file()]
        return tuple(Cell(name, severity) for name in names for severity in SEVERITIES)

    def digest(self) -> str:
        """A hash of the labels and of the names of the arrays; what is in the pictures does not count."""
        names = sorted({cell.corruption for cell in self.cells})
        return hashlib.sha256(repr((names, self.labels.tolist())).encode()).hexdigest()

    def check_labels(self, labels: Sequence[int]) -> None:
        """Refuse a data set whose images are not in the order of the arrays.

        Args:
            labels: The labels of the data set, in its order; the first part of the arrays' is enough.

        Raises:
            MmsharpError: They are more than the arrays', or others.
        """
        if len(labels) > self.count or not np.array_equal(self.labels[: len(labels)], np.asarray(labels)):
            raise MmsharpError(
                f'the {len(labels)} test images do not have the labels of {self.root / LABELS} in their order: the '
                "arrays follow the official order of the test set, which mmpretrain's CIFAR10 and CIFAR100 have and a "
                'folder of pictures has not'
            )

    def image(self, cell: Cell, index: int) -> np.ndarray:
        """The picture of an image of the data set in a cell, RGB, of its own."""
        name = cell.corruption
        if name not in self._arrays:
            self._arrays[name] = _load(self.root / f'{name}.npy')
        return np.array(self._arrays[name][(cell.severity - 1) * self.count + index])

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, '_arrays': {}}  # a process opens the arrays for itself instead of copying them

    def _check(self, path: Path) -> None:
        array = _load(path)
        wanted = len(SEVERITIES) * self.count
        if array.ndim != 4 or array.shape[3] != 3 or len(array) != wanted or array.dtype != np.uint8:
            raise MmsharpError(
                f'{path} holds {array.dtype} of the shape {array.shape}; expected uint8 of ({wanted}, H, W, 3)'
            )


def is_folder_of_arrays(root: str | os.PathLike[str]) -> bool:
    """Whether a folder holds labels and at least one corruption as arrays.

    Example:
        >>> is_folder_of_arrays('nowhere')
        False
    """
    folder = Path(root)
    return (folder / LABELS).is_file() and any((folder / f'{name}.npy').is_file() for name in NAMES)


def _load(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode='r', allow_pickle=False)
    except (OSError, ValueError) as error:
        raise MmsharpError(f'{path} cannot be read as an array: {error}; download it again') from error
    return array
