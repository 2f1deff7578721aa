"""The picture of a grid's current cell, from a tree of corrupted pictures."""

from collections.abc import Callable, Mapping
from typing import Any

from mmcv.transforms import BaseTransform

from mmsharp.datasets.transforms.current_cell import CurrentCell
from mmsharp.robustness import CorruptedTree


class ReadCurrentCell(BaseTransform):
    """Let the loading transform that follows read the picture of the cell that ``current`` holds.

    Required and modified key: ``img_path``.

    Args:
        current: The cell.
        tree: Where the pictures are.
        files: The path in a cell per ``img_path``; see :meth:`mmsharp.robustness.CorruptedTree.match`.
    """

    def __init__(self, current: CurrentCell, tree: CorruptedTree, files: Mapping[str, str]) -> None:
        self.current = current
        self.tree = tree
        self.files = files

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Exchange the path; in the clean cell nothing is touched."""
        cell = self.current.get()
        if not cell.is_clean:
            results['img_path'] = self.tree.path(cell, self.files[results['img_path']])
        return results


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
