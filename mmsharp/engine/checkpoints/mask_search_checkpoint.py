"""Checkpoints and configs of a mask search, as those of the ordinary network."""

from __future__ import annotations

import copy

from mmengine.config import Config
from torch import Tensor

from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.errors import MmsharpError
from mmsharp.pruning import Recipe
from mmsharp.type_names import type_name

MASKS = 'mask_search.'
"""The child of the model that holds the masks, as its keys in a state dict begin."""


def searches_masks(config: Config) -> bool:
    """Whether the model of a config is one whose masks are searched."""
    return type_name(config.model) in ('MaskSearch', 'searching_model')


def ordinary_of(config: Config) -> Config:
    """The config without the search; another config as it is.

    Example:
        >>> ordinary_of(Config(dict(model=dict(type='mmsharp.MaskSearch', base='Net', search=dict(), depth=1)))).model
        {'type': 'Net', 'depth': 1}
    """
    if not searches_masks(config):
        return config
    ordinary = copy.deepcopy(config)
    model = {key: value for key, value in config.model.items() if key not in ('type', 'base', 'search')}
    ordinary.model = dict(type=config.model.base, **copy.deepcopy(model))
    return ordinary


def as_pruned(
    config: Config, state: PruningState, weights: dict[str, Tensor], source: str
) -> tuple[PruningState, dict[str, Tensor]]:
    """State and weights as the ordinary network has them, without masks.

    A finished search over weights has zeroed them: they are plain weights, and nothing of the network's shape has gone,
    which a recipe of nothing says. A search over channels ends in an ordinary recipe.

    Args:
        config: The config that the checkpoint was trained with.
        state: What the checkpoint says of pruning.
        weights: Its tensors.
        source: Its path, for the message.

    Raises:
        MmsharpError: The search has not ended.
    """
    own = {key: value for key, value in weights.items() if key.startswith(MASKS)}
    if not searches_masks(config) or state.kind != 'dense':
        return state, {key: value for key, value in weights.items() if key not in own}
    finished = own.get(f'{MASKS}finished')
    if finished is None or not bool(finished):
        raise MmsharpError(
            f'checkpoint {source!r} is from before the end of the mask search: nothing has been pruned in it; give one '
            'that was written after it, see `search` of mmsharp.MaskSearchHook'
        )
    shape = config.model.search.get('input_shape')
    plain = {key: value for key, value in weights.items() if key not in own}
    return PruningState('slim', Recipe({}), None if shape is None else tuple(shape)), plain
