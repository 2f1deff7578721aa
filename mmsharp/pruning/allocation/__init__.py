"""Allocations: how a budget is spread over groups."""

from mmsharp.pruning.allocation.budget import Limits, floor_masks, meet_budget, parse_budget
from mmsharp.pruning.allocation.global_threshold import Global
from mmsharp.pruning.allocation.knapsack import Knapsack
from mmsharp.pruning.allocation.sparsity_ratio import SparsityRatio, sparsity_ratios
from mmsharp.pruning.allocation.uniform import Uniform

__all__ = [
    'Global',
    'Knapsack',
    'Limits',
    'SparsityRatio',
    'Uniform',
    'floor_masks',
    'meet_budget',
    'parse_budget',
    'sparsity_ratios',
]
