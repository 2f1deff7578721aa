"""Builders that appear as ``type=`` in a config."""

from mmsharp.models.slim_model import slim_model, without_downloads

__all__ = ['slim_model', 'without_downloads']
