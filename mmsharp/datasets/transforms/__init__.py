"""Pipeline transforms."""

from mmsharp.datasets.transforms.constants_seen import ConstantsSeen
from mmsharp.datasets.transforms.corrupt import Corrupt
from mmsharp.datasets.transforms.corrupt_current_cell import CorruptCurrentCell
from mmsharp.datasets.transforms.current_cell import CurrentCell
from mmsharp.datasets.transforms.guarded_loading import GuardedLoading, UnreadableImageError
from mmsharp.datasets.transforms.random_image_transforms import RandomImageTransforms
from mmsharp.datasets.transforms.read_current_cell import CleanOnly, ReadCurrentCell
from mmsharp.datasets.transforms.take_current_cell import TakeCurrentCell

__all__ = [
    'CleanOnly',
    'ConstantsSeen',
    'Corrupt',
    'CorruptCurrentCell',
    'CurrentCell',
    'GuardedLoading',
    'RandomImageTransforms',
    'ReadCurrentCell',
    'TakeCurrentCell',
    'UnreadableImageError',
]
