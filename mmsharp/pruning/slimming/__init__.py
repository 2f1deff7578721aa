"""Remove channels for good, by a recipe that says which ones are kept."""

from mmsharp.pruning.slimming.recipe import AxisRecipe, LayerRecipe, Recipe
from mmsharp.pruning.slimming.removal import apply_recipe

__all__ = ['AxisRecipe', 'LayerRecipe', 'Recipe', 'apply_recipe']
