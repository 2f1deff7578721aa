"""Optimizer wrappers: MMEngine's own, made sharpness-aware."""

from mmsharp.engine.optim_wrappers.amp_optim_wrapper import AmpOptimWrapper
from mmsharp.engine.optim_wrappers.amp_sam_optim_wrapper import AmpSAMOptimWrapper
from mmsharp.engine.optim_wrappers.sam_optim_wrapper import SAMOptimWrapper
from mmsharp.engine.optim_wrappers.sharpness_aware import SharpnessAware

__all__ = ['AmpOptimWrapper', 'AmpSAMOptimWrapper', 'SAMOptimWrapper', 'SharpnessAware']
