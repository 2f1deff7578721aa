"""Sharpness-aware training on any ``nn.Module``: ascents, policies, measures, and guards that restore a model."""

from mmsharp.sharpness.ascents import (
    ASAM,
    SAM,
    AdaSAP,
    Ascent,
    AscentReading,
    MomentumSAM,
    adaptive_radius,
    discard_nonfinite_,
    gradient_norm,
)
from mmsharp.sharpness.checkpointing import non_reentrant_checkpoints
from mmsharp.sharpness.forward_state import ForwardState
from mmsharp.sharpness.guards import RandomState, WeightGuard, frozen_statistics
from mmsharp.sharpness.loss_surface import LossSurface
from mmsharp.sharpness.measure import Sharpness, measure_sharpness
from mmsharp.sharpness.parameters import AscentParameter, select_parameters, validate_filter
from mmsharp.sharpness.policies import EveryStep, LookSAM, Periodic, Policy, RandomLayers

__all__ = [
    'ASAM',
    'SAM',
    'AdaSAP',
    'Ascent',
    'AscentParameter',
    'AscentReading',
    'EveryStep',
    'ForwardState',
    'LookSAM',
    'LossSurface',
    'MomentumSAM',
    'Periodic',
    'Policy',
    'RandomLayers',
    'RandomState',
    'Sharpness',
    'WeightGuard',
    'adaptive_radius',
    'discard_nonfinite_',
    'frozen_statistics',
    'gradient_norm',
    'measure_sharpness',
    'non_reentrant_checkpoints',
    'select_parameters',
    'validate_filter',
]
