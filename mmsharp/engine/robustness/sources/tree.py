"""Corrupted images read from a tree, as ImageNet-C is released and our converter writes them."""

import os
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

from mmsharp.datasets.transforms import (
    CleanOnly,
    ConstantsSeen,
    CurrentCell,
    GuardedLoading,
    ReadCurrentCell,
    UnreadableImageError,
)
from mmsharp.engine.configs.pipelines import is_a, is_loading, replace, walk
from mmsharp.engine.robustness.data_digest import data_sha256, image_digest
from mmsharp.engine.robustness.sources.source import GEOMETRIC, Placement, Position, Reading
from mmsharp.errors import MmsharpError
from mmsharp.robustness import TREE_IMAGES, TREE_MANIFEST, Cell, CorruptedTree, Grid, check_cells


class FromTree:
    """The loading transform reads the picture of the cell in place of the clean one.

    At the position ``'after_crop'`` the pictures are taken to have the model's size already: resize and crop are left
    out. At ``'after_loading'`` they go through the whole pipeline.

    Args:
        root: The tree; see :class:`mmsharp.robustness.CorruptedTree`.

    Raises:
        MmsharpError: It holds no corrupted images.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.tree = CorruptedTree(root)
        self._seen = ConstantsSeen()
        self._ready = False
        self._data: tuple[int, str] | None = None
        self._datasets: list[Any] = []
        self._files: dict[str, str] = {}

    @property
    def position(self) -> Position | None:
        """The position at which our converter corrupted; released trees do not say."""
        return self.tree.manifest.get('position')

    @property
    def constants(self) -> tuple[str, ...]:
        """What those of our converter came to, picture by picture; released trees do not say."""
        return self._seen.names

    def identity(self) -> dict[str, Any]:
        """The names of the pictures and how they were made, wherever the folder stands."""
        made = {key: self.tree.manifest.get(key) for key in ('seed', 'channel_order', 'backend', 'constants')}
        return {'source': 'tree', **made, 'tree_sha256': self.tree.digest()}

    def readings(self, grid: Grid) -> tuple[Reading, ...]:
        """All of the grid."""
        return tuple(map(Reading, grid.cells))

    def check(self, grid: Grid) -> None:
        """Of what the tree was made, its manifest says, and its folders which cells it has."""
        self._check_data()
        check_cells(grid.cells, self.tree.cells, self.tree.root)

    def prepare(self, grid: Grid, dataset: Any, current: CurrentCell) -> None:
        """Refuse other data than the tree was made of, missing cells, and pictures of a size the model does not take.

        Of what the tree was made, its manifest says; released trees have none and are known by the images' names alone.
        A part of the images that it was made of is as good as all of them, in any order. Of the pictures the first one
        is compared. Where the clean one cannot be read there is nothing to compare with.
        """
        self.check(grid)
        corrupted = [cell for cell in grid.cells if not cell.is_clean]
        if not self._ready or not corrupted:
            return
        try:
            wanted = _shape(dataset[0])
            current.set(corrupted[0])
            found = _shape(dataset[0])
        except UnreadableImageError:
            return
        finally:
            current.set(Cell.clean())
        if found != wanted:
            raise MmsharpError(
                f'the pictures in {str(self.tree.root)!r} have the shape {found} and the pipeline makes images of '
                f'{wanted}: give position after_loading, and they go through its resize and crop too'
            )

    def insert(self, dataset: Any, transforms: list[Any], current: CurrentCell, placement: Placement) -> None:
        """Let the loading transforms, which are guarded, read the cell's picture.

        Raises:
            MmsharpError: The dataset has no files, or they are not in the tree.
        """
        if not any(is_loading(transform) for transform in walk(transforms)):
            raise MmsharpError(
                f'{type(dataset).__name__} does not read files, so a tree of pictures cannot take their place; give '
                'a folder of arrays (<corruption>.npy and labels.npy), or compute the corruptions'
            )
        self._datasets.append(dataset)
        # Now, because unreadable images may be left out later; one that is held in several parts counts in each.
        whole = SimpleNamespace(datasets=self._datasets)
        self._data = sum(len(part) for part in self._datasets), data_sha256(whole)
        paths = [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]
        files = self.tree.match(paths)
        self._files.update(files)
        self._ready = placement.position == 'after_crop'
        if self._ready:
            replace(transforms, lambda item: is_a(item, GEOMETRIC), lambda item: CleanOnly(item, current))
        replace(
            transforms,
            lambda item: isinstance(item, GuardedLoading),
            lambda item: ReadCurrentCell(item, current, self.tree, files, self._seen),
        )

    def _check_data(self) -> None:
        """Compare the images and annotations with those that the manifest records.

        Raises:
            MmsharpError: They are others.
        """
        made = self.tree.manifest
        if self._data is None or 'data_sha256' not in made:
            return
        images, digest = self._data
        if made['data_sha256'] == digest:
            return
        root = str(self.tree.root)
        mend = (
            'Write a tree of this test set with tools/dataset_converters/corrupt_dataset.py; only where the pictures '
            'are known to be the same and the annotations alone have changed, take data_sha256 out of its '
            f'{TREE_MANIFEST}'
        )
        if not self.tree.images:
            counts = f'{made.get("images")} images' if made.get('images') != images else 'other images or annotations'
            raise MmsharpError(
                f'{root!r} was written from another data set: it records {counts} and data_sha256 '
                f'{made["data_sha256"]}, and the test set has {images} images and data_sha256 {digest}. If these are a '
                f'part of its images, write it once more as before, which adds {TREE_IMAGES}. {mend}'
            )
        foreign = self._foreign()
        if foreign:
            raise MmsharpError(
                f'{root!r} was written from another data set: {len(foreign)} of the test images are not those of that '
                f'name there, or have other annotations; the first is {foreign[0]}. {mend}'
            )

    def _foreign(self) -> list[str]:
        """The images that the tree does not record with these annotations."""
        infos = (part.get_data_info(index) for part in self._datasets for index in range(len(part)))
        named = ((info['img_path'], image_digest(info)) for info in infos)
        return [path for path, digest in named if self.tree.images.get(_stem(self._files[path])) != digest]


def _stem(file: str) -> str:
    """A path in a cell as the converter records it, whatever the format of the pictures."""
    return str(PurePosixPath(file).with_suffix(''))


def _shape(item: Any) -> tuple[int, ...] | None:
    """The shape of what a pipeline packs."""
    shape = getattr(item.get('inputs'), 'shape', None) if isinstance(item, dict) else None
    return None if shape is None else tuple(shape)
