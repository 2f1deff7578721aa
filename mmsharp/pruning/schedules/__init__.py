"""Schedules: how much is kept at which progress of the pruning phase."""

from mmsharp.pruning.schedules.cubic import Cubic
from mmsharp.pruning.schedules.force import FORCE
from mmsharp.pruning.schedules.linear import Linear
from mmsharp.pruning.schedules.one_shot import OneShot

__all__ = ['FORCE', 'Cubic', 'Linear', 'OneShot']
