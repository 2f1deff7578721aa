"""Sharpness-aware pruning for the OpenMMLab toolboxes; importing mmsharp registers everything it offers."""

from mmsharp.version import __version__

__all__ = ['__version__']
