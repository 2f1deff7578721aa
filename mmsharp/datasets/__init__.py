"""Data sets and transforms that configs of the toolboxes name as ``mmsharp.<Name>``."""

from mmsharp.datasets.transforms import Corrupt

__all__ = ['Corrupt']
