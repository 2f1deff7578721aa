"""Recipes that a model cannot be cut to: refused before anything is written."""

from __future__ import annotations

from torch import nn

from mmsharp.errors import MmsharpError, one_line
from mmsharp.pruning import Forward, Recipe, apply_recipe, tensor_forward
from mmsharp.pruning.forwards import looked_at
from mmsharp.pruning.forwards.image_sample import image_sample
from mmsharp.pruning.forwards.image_scale import images_like
from mmsharp.pruning.forwards.model_copies import model_copy
from mmsharp.pruning.slimming.slim_difference import MASKED_EQUALS_SLIM, slim_difference


def together(earlier: Recipe, later: Recipe, checkpoint_path: str) -> Recipe:
    """Both recipes as one.

    Raises:
        MmsharpError: The later one was not written for a model that the earlier one has cut.
    """
    try:
        return earlier.followed_by(later)
    except MmsharpError as error:
        raise MmsharpError(
            f'the config describes a slim model already, and the recipe in checkpoint {checkpoint_path!r} was not '
            f'written for it ({error}); give the ordinary config that the checkpoint was trained with'
        ) from error


def cut(model: nn.Module, recipe: Recipe, checkpoint_path: str) -> None:
    """Remove what the recipe does not keep.

    Raises:
        MmsharpError: The model has other layers or widths.
    """
    try:
        apply_recipe(model, recipe)
    except MmsharpError as error:
        raise MmsharpError(
            f'the recipe in checkpoint {checkpoint_path!r} does not fit {type(model).__name__}: {error}; give the '
            'config that it was trained with'
        ) from error


def check_equal(masked: nn.Module, recipe: Recipe, shape: tuple[int, ...] | None, checkpoint_path: str) -> list[str]:
    """Refuse to remove channels that a masked model still needs; notes where it could not be run to see."""
    if shape is None:
        return ['masked and slim outputs were not compared: the checkpoint does not say what the input is like']
    if (failure := _failure(masked, shape)) is not None:
        return [f'masked and slim outputs were not compared: {failure}']
    try:
        difference = slim_difference(masked, recipe, _image_forward(masked, shape))
    except Exception as error:  # whatever the model's own code raises for a width that it does not expect
        reason = f'makes the model fail: {one_line(error)}'
    else:
        if difference <= MASKED_EQUALS_SLIM:
            return []
        reason = f'changes the output by {difference:.2g} relative to its scale, more than rounding'
    raise MmsharpError(
        f'removing the masked channels of checkpoint {checkpoint_path!r} from {type(masked).__name__} {reason}: some '
        'channels are coupled in a way that was not found, or these are not the weights that were masked; nothing is '
        'written. Prune again with the layers concerned in `pruner=dict(ignore=[...])`, or use the masked model'
    )


def check_runs(
    dense: nn.Module, slim: nn.Module, recipe: Recipe, shape: tuple[int, ...] | None, checkpoint_path: str
) -> None:
    """Refuse a recipe whose layers do not fit each other, which one forward pass tells where the shape is known."""
    if shape is None or (reason := _failure(slim, shape)) is None:
        return
    twin = model_copy(dense)  # has the dense one's weights: what trained ones lead to is not the recipe's fault
    apply_recipe(twin, recipe)
    if _failure(twin, shape) is not None and _failure(dense, shape) is None:
        raise MmsharpError(
            f'the recipe in checkpoint {checkpoint_path!r} does not fit {type(dense).__name__} from one layer to the '
            f'next: the slim model does not run on images of shape {shape} ({reason}), and the dense one does; '
            'nothing is written. Give the checkpoint with the recipe that the model was pruned with'
        )


def _failure(model: nn.Module, shape: tuple[int, ...]) -> str | None:
    """Why a model does not run on an image of this shape; ``None`` if it does."""
    try:
        with looked_at(model):
            _image_forward(model, shape)(model)
    except Exception as error:  # models are free in what they do in tensor mode
        return one_line(error)
    return None


def _image_forward(model: nn.Module, shape: tuple[int, ...]) -> Forward:
    return tensor_forward(images_like(model, shape), [image_sample(shape)], annotated=False)
