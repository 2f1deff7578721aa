"""Where corrupted images come from: computed from the clean ones, or read as they were released or written."""

import os

from mmsharp.engine.robustness.sources.arrays import FromArrays
from mmsharp.engine.robustness.sources.computed import Computed
from mmsharp.engine.robustness.sources.source import CorruptionSource, Placement, Position, Reading
from mmsharp.engine.robustness.sources.tree import FromTree
from mmsharp.robustness import OnTheFly, is_folder_of_arrays

__all__ = [
    'Computed',
    'CorruptionSource',
    'FromArrays',
    'FromTree',
    'Placement',
    'Position',
    'Reading',
    'choose_source',
]


def choose_source(corrupted: str | os.PathLike[str] | None, settings: OnTheFly) -> CorruptionSource:
    """The source that a user's words describe.

    Args:
        corrupted: A folder of arrays or a tree of pictures, told apart by what is in it; ``None`` computes them.
        settings: How they are computed; without effect on a folder.

    Raises:
        MmsharpError: The folder is neither.
    """
    if corrupted is None:
        return Computed(settings)
    return FromArrays(corrupted) if is_folder_of_arrays(corrupted) else FromTree(corrupted)
