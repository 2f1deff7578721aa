"""Pipeline transforms."""

from mmsharp.datasets.transforms.corrupt import Corrupt
from mmsharp.datasets.transforms.corrupt_current_cell import CorruptCurrentCell, CurrentCell
from mmsharp.datasets.transforms.guarded_loading import GuardedLoading, UnreadableImageError

__all__ = ['Corrupt', 'CorruptCurrentCell', 'CurrentCell', 'GuardedLoading', 'UnreadableImageError']
