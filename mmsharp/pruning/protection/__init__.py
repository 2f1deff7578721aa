"""Protection: soft pruning, what the gradient says about the filters that are gone, and which of them come back."""

from mmsharp.pruning.protection.filter_parts import FilterPart, filter_parts, learns
from mmsharp.pruning.protection.gate_gradients import gate_gradients
from mmsharp.pruning.protection.gate_means import GateMeans
from mmsharp.pruning.protection.limited_regrowth import LimitedRegrowth
from mmsharp.pruning.protection.protection_memory import ProtectionMemory, held
from mmsharp.pruning.protection.protective_reconstruction import (
    ProtectiveReconstruction,
    check_protection,
    reconstruct,
    refill,
)
from mmsharp.pruning.protection.pulses import PulseWatch
from mmsharp.pruning.protection.soft_pruning import SoftPruning
from mmsharp.pruning.protection.whole_filters import WholeFilters

__all__ = [
    'FilterPart',
    'GateMeans',
    'LimitedRegrowth',
    'ProtectionMemory',
    'ProtectiveReconstruction',
    'PulseWatch',
    'SoftPruning',
    'WholeFilters',
    'check_protection',
    'filter_parts',
    'gate_gradients',
    'held',
    'learns',
    'reconstruct',
    'refill',
]
