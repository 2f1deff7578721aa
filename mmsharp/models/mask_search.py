"""Any classifier or one-stage detector with masks to search, as ``type=`` of a config."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import ConfigDict
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.models.mask_search_settings import MaskSearchSettings
from mmsharp.models.masked_network import MaskedNetwork, masked_class
from mmsharp.models.network_outputs import head_of
from mmsharp.pruning import find_groups, tensor_forward
from mmsharp.pruning.forwards.image_sample import image_sample
from mmsharp.pruning.forwards.image_scale import images_like
from mmsharp.pruning.mask_search import ChannelUnits, MaskUnits, SearchedMasks, WeightUnits
from mmsharp.registry import MODELS


@MODELS.register_module(name='MaskSearch')
def searching_model(
    base: str | type | None = None, search: Mapping[str, Any] | None = None, **config: Any
) -> MaskedNetwork:
    """Build the ordinary model and add masks that its training searches; our reading of C-SAM (arXiv 2601.20301).

    ``model = dict(type='mmsharp.MaskSearch', base='ImageClassifier', search=dict(ratio=0.5), backbone=..., head=...)``:
    every other key stays where it was. What comes back is the ordinary model with a child ``mask_search``, which holds
    the masks; its weights keep their names, so that it is trained ``load_from`` the checkpoint of the dense model. In
    training, ``mode='loss'`` gives the terms of the search. In other modes the network runs with its masks, soft until
    ``mmsharp.MaskSearchHook`` ends the search and binary from then on: before, the statistics of BatchNorm
    are those of the soft ones.

    Weights are frozen during the search. All passes of a step see the same batch and the same random numbers, and
    BatchNorm takes its statistics from the unperturbed pass alone.

    Args:
        base: The type of the ordinary model: a classifier of mmpretrain with one softmax over its classes, or a
            detector of mmdet with one stage.
        search: Settings, see :class:`~mmsharp.models.mask_search_settings.MaskSearchSettings`.
        config: The keys of the ordinary model.

    Raises:
        MmsharpError: A setting is missing or wrong, or the model is of another kind.
    """
    for name, value in (('base', base), ('search', search)):
        if value is None:
            raise MmsharpError(
                f'mmsharp.MaskSearch: {name!r} is missing; give the type that the model had and the settings of the '
                "search, model=dict(type='mmsharp.MaskSearch', base='ImageClassifier', search=dict(ratio=0.5), ...)"
            )
    settings = MaskSearchSettings.of(search)
    # ConfigDict, because heads read their test_cfg by attribute.
    model: Any = MMENGINE_MODELS.build(ConfigDict(copy.deepcopy(config), type=base))
    head = head_of(model)
    for name, term in settings.losses.items():
        if not term.for_detectors and hasattr(head, 'cls_out_channels'):
            raise MmsharpError(
                f'search.losses.{name}: {type(term).__name__} is not defined for detectors; leave it out, {name}=None'
            )
    masks = SearchedMasks(_units(model, settings), settings.parameterisation)
    kind: type = type(model)
    model.__class__ = masked_class(kind)
    model.search_settings = settings
    model.mask_search = masks
    found: MaskedNetwork = model
    return found


def _units(model: nn.Module, settings: MaskSearchSettings) -> MaskUnits:
    if settings.granularity == 'weight':
        assert settings.ratio is not None
        return WeightUnits(model, settings.ratio, settings.ignore)
    shape = tuple(settings.input_shape or ())
    forward = tensor_forward(images_like(model, shape), [image_sample(shape)], annotated=False)
    groups = find_groups(model, forward, settings.ignore)
    return ChannelUnits(groups, model, settings.ratio, settings.budget_of, forward, settings.round_to)


def is_searching(model: nn.Module) -> bool:
    """Whether a model has masks whose search has not ended."""
    return isinstance(model, MaskedNetwork) and not bool(model.mask_search.finished)


def has_masks(model: nn.Module) -> bool:
    """Whether a model has masks, searched or fixed."""
    return isinstance(model, MaskedNetwork)


def without_masks(model: nn.Module) -> None:
    """Turn a model with masks into the ordinary one, in place; any other model stays as it is."""
    if isinstance(model, MaskedNetwork):
        model.leave_search()
