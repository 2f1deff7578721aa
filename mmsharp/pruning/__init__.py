"""Structured pruning of any ``nn.Module``: groups of channels, scores, budgets, masks, recipes, slimming.

``find_groups`` -> criterion -> allocation (to a budget, on a schedule) -> ``ChannelMasks`` -> ``Recipe`` ->
``apply_recipe``; ``ChannelPruner`` drives them.
"""

from mmsharp.pruning.allocation import (
    Global,
    Knapsack,
    Limits,
    SparsityRatio,
    Uniform,
    meet_budget,
    parse_budget,
    sparsity_ratios,
)
from mmsharp.pruning.channel_pruner import ChannelPruner
from mmsharp.pruning.costs.complexity import count_macs, count_parameters, measure_latencies, measure_latency
from mmsharp.pruning.costs.cost import CostModel
from mmsharp.pruning.criteria import BatchNormScale, GeometricMedian, Magnitude, Random, Taylor
from mmsharp.pruning.forwards import Forward, output_tensors, tensor_forward
from mmsharp.pruning.groups import ChannelGroup, DenseLayer, GroupSet, Member
from mmsharp.pruning.groups.finding import find_groups
from mmsharp.pruning.groups.masks import ChannelMasks
from mmsharp.pruning.protection import (
    GateMeans,
    LimitedRegrowth,
    ProtectionMemory,
    ProtectiveReconstruction,
    PulseWatch,
    SoftPruning,
    WholeFilters,
    gate_gradients,
    held,
    reconstruct,
    refill,
)
from mmsharp.pruning.schedules import FORCE, Cubic, Linear, OneShot
from mmsharp.pruning.slimming import apply_recipe
from mmsharp.pruning.slimming.recipe import AxisRecipe, LayerRecipe, Recipe

__all__ = [
    'FORCE',
    'AxisRecipe',
    'BatchNormScale',
    'ChannelGroup',
    'ChannelMasks',
    'ChannelPruner',
    'CostModel',
    'Cubic',
    'DenseLayer',
    'Forward',
    'GateMeans',
    'GeometricMedian',
    'Global',
    'GroupSet',
    'Knapsack',
    'LayerRecipe',
    'LimitedRegrowth',
    'Limits',
    'Linear',
    'Magnitude',
    'Member',
    'OneShot',
    'ProtectionMemory',
    'ProtectiveReconstruction',
    'PulseWatch',
    'Random',
    'Recipe',
    'SoftPruning',
    'SparsityRatio',
    'Taylor',
    'Uniform',
    'WholeFilters',
    'apply_recipe',
    'count_macs',
    'count_parameters',
    'find_groups',
    'gate_gradients',
    'held',
    'measure_latencies',
    'measure_latency',
    'meet_budget',
    'output_tensors',
    'parse_budget',
    'reconstruct',
    'refill',
    'sparsity_ratios',
    'tensor_forward',
]
