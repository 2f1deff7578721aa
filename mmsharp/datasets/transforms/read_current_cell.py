"""The picture of a grid's current cell, from a tree of corrupted pictures."""

from collections.abc import Callable, Mapping
from typing import Any

from mmcv.transforms import BaseTransform

from mmsharp.datasets.transforms.constants_seen import ConstantsSeen
from mmsharp.datasets.transforms.current_cell import CurrentCell
from mmsharp.robustness import CONSTANTS, CorruptedTree


class ReadCurrentCell(BaseTransform):
    """Let a loading transform read the picture of the cell that ``current`` holds.

    The image keeps the path that the dataset gave it: some metrics derive the path of the ground truth from it, as
    MMDetection's ``CityScapesMetric`` does. What the loading transform says of a file it cannot read names the picture.

    Required key: ``img_path``.

    Args:
        loading: The loading transform.
        current: The cell.
        tree: Where the pictures are.
        files: The path in a cell per ``img_path``; see :meth:`mmsharp.robustness.CorruptedTree.match`.
        seen: Told which constants each picture was made with, where the tree says with which it was.
    """

    def __init__(
        self,
        loading: Callable[[dict[str, Any]], Any],
        current: CurrentCell,
        tree: CorruptedTree,
        files: Mapping[str, str],
        seen: ConstantsSeen | None = None,
    ) -> None:
        self.loading = loading
        self.current = current
        self.tree = tree
        self.files = files
        self.seen = seen

    def transform(self, results: dict[str, Any]) -> Any:
        """Load from another path; in the clean cell from the image's own."""
        cell = self.current.get()
        if cell.is_clean:
            return self.loading(results)
        path = results['img_path']
        loaded = self.loading({**results, 'img_path': self.tree.path(cell, self.files[path])})
        if loaded is None:
            return None
        constants = self.tree.manifest.get('constants')
        if self.seen is not None and constants in CONSTANTS:
            self.seen.note(constants, loaded['img'].shape)
        return {**loaded, 'img_path': path}

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.loading!r})'


class CleanOnly(BaseTransform):
    """A transform that is left out in corrupted cells, whose pictures have been through it already.

    Args:
        inner: The transform.
        current: The cell.
    """

    def __init__(self, inner: Callable[[dict[str, Any]], Any], current: CurrentCell) -> None:
        self.inner = inner
        self.current = current

    def transform(self, results: dict[str, Any]) -> Any:
        """Do what the transform does, in the clean cell."""
        return self.inner(results) if self.current.get().is_clean else results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.inner!r})'
