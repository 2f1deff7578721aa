"""Structured pruning of any ``nn.Module``: groups of channels, masks, recipes, slimming."""

from mmsharp.pruning.forwards import Forward, output_tensors, tensor_forward
from mmsharp.pruning.groups import ChannelGroup, DenseLayer, GroupSet, Member, find_groups
from mmsharp.pruning.masks import ChannelMasks
from mmsharp.pruning.recipe import AxisRecipe, LayerRecipe, Recipe
from mmsharp.pruning.slimming import Changes, apply_recipe, slim_optimizer_state_

__all__ = [
    'AxisRecipe',
    'Changes',
    'ChannelGroup',
    'ChannelMasks',
    'DenseLayer',
    'Forward',
    'GroupSet',
    'LayerRecipe',
    'Member',
    'Recipe',
    'apply_recipe',
    'find_groups',
    'output_tensors',
    'slim_optimizer_state_',
    'tensor_forward',
]
