"""Criteria: how important each channel of a group is."""

from mmsharp.pruning.criteria.magnitude import Magnitude
from mmsharp.pruning.criteria.random import Random

__all__ = ['Magnitude', 'Random']
