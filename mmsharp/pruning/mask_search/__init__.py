"""Masks that are searched by gradient descent: over single weights, or over coupled channels.

Our reading of C-SAM (He and Chen 2026, arXiv 2601.20301), whose formulas could not be read, and HYDRA's score search
(arXiv 2002.10509) from the same parts: what is masked (units) x what is learned (parameterisation) x how it is
perturbed x which terms make the loss.
"""

from mmsharp.pruning.mask_search.channel_units import ChannelUnits, gated_parameters
from mmsharp.pruning.mask_search.collapse import Collapse, CollapseWatch
from mmsharp.pruning.mask_search.drawn_transforms import DrawnTransforms
from mmsharp.pruning.mask_search.hard_masks import hard_mask, kept_count, straight_through
from mmsharp.pruning.mask_search.norm_statistics import reestimate_statistics
from mmsharp.pruning.mask_search.outputs import Outputs, discrepancy
from mmsharp.pruning.mask_search.parameter_owners import parameter_owners
from mmsharp.pruning.mask_search.parameterisations import Parameterisation, Score, Soft, percentile
from mmsharp.pruning.mask_search.passes import Passes
from mmsharp.pruning.mask_search.perturbations import (
    GradientPerturbation,
    NoPerturbation,
    Perturbation,
    UniformPerturbation,
)
from mmsharp.pruning.mask_search.searched_masks import SearchedMasks
from mmsharp.pruning.mask_search.terms import L1, Consistency, MarginRatio, Stability, Task, Term, total_loss
from mmsharp.pruning.mask_search.units import MaskUnits
from mmsharp.pruning.mask_search.weight_units import WeightUnits
from mmsharp.pruning.mask_search.without_checkpoints import without_checkpoints

__all__ = [
    'L1',
    'ChannelUnits',
    'Collapse',
    'CollapseWatch',
    'Consistency',
    'DrawnTransforms',
    'GradientPerturbation',
    'MarginRatio',
    'MaskUnits',
    'NoPerturbation',
    'Outputs',
    'Parameterisation',
    'Passes',
    'Perturbation',
    'Score',
    'SearchedMasks',
    'Soft',
    'Stability',
    'Task',
    'Term',
    'UniformPerturbation',
    'WeightUnits',
    'discrepancy',
    'gated_parameters',
    'hard_mask',
    'kept_count',
    'parameter_owners',
    'percentile',
    'reestimate_statistics',
    'straight_through',
    'total_loss',
    'without_checkpoints',
]
