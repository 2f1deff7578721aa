"""Prunability: what is left of one config of every family of the toolboxes, and whether it still works.

``families`` names the configs, ``examples`` fabricates what they are fed, ``trial`` runs the checks on one of them,
``isolation`` gives each a process and a time limit, ``record`` keeps the rows and ``page`` renders them.
"""

from mmsharp.engine.prunability.families import FAMILIES, Family, in_scope, packaged_config
from mmsharp.engine.prunability.page import render
from mmsharp.engine.prunability.record import ProbeRecord
from mmsharp.engine.prunability.survey import Settings, run_survey

__all__ = ['FAMILIES', 'Family', 'ProbeRecord', 'Settings', 'in_scope', 'packaged_config', 'render', 'run_survey']
