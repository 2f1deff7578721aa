"""A slim model as an ordinary ``type=`` of a config, so that the toolboxes' own tools load it unmodified."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

from mmengine.config import ConfigDict
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import Recipe, apply_recipe
from mmsharp.registry import MODELS
from mmsharp.type_names import type_name

PRETRAINED = ('Pretrained', 'PretrainedInit')
"""MMEngine's initialisation that loads weights, as a registered name and as a class."""


@MODELS.register_module(name='SlimModel')
def slim_model(base: str | type, recipe: str | os.PathLike[str] | Mapping[str, Any], **config: Any) -> nn.Module:
    """Build the ordinary model and cut it to the recipe; what comes back is the slim inner model itself.

    ``model = dict(type='mmsharp.SlimModel', base='RetinaNet', recipe='{{ fileDirname }}/recipe.json', backbone=...)``:
    every other key of ``model`` stays where it was, because the toolboxes reach into ``cfg.model.backbone``,
    ``.test_cfg`` and inject ``data_preprocessor``. Weights named by any ``init_cfg`` are not loaded: they are dense.

    Args:
        base: The type of the ordinary model.
        recipe: Path of ``recipe.json``, or its content as a dict. In a text config ``{{ fileDirname }}`` stands for the
            folder of the config file; a bare relative path is taken from the current directory.
        config: The keys of the ordinary model.

    Raises:
        MmsharpError: The recipe is missing, malformed, or does not fit the model.
    """
    if isinstance(recipe, Mapping):
        loaded = Recipe.from_dict(recipe)
    elif os.path.isfile(recipe):
        loaded = Recipe.load(recipe)
    else:
        raise MmsharpError(
            f'recipe {os.fspath(recipe)!r} does not exist (current directory {os.getcwd()!r}); in a config write '
            "recipe='{{ fileDirname }}/recipe.json' for a file beside the config"
        )
    # ConfigDict, because heads read their test_cfg by attribute.
    model = MMENGINE_MODELS.build(ConfigDict(without_downloads(config), type=base))
    apply_recipe(model, loaded)
    return model


def without_downloads(config: Any) -> Any:
    """A copy of a model config, of the same kinds of dicts, in which no ``init_cfg`` names weights to load.

    Example:
        >>> without_downloads(dict(backbone=dict(depth=18, init_cfg=dict(type='Pretrained', checkpoint='x.pth'))))
        {'backbone': {'depth': 18, 'init_cfg': None}}
    """
    if isinstance(config, Mapping):
        changed: Any = type(config)()
        for key, value in config.items():
            changed[key] = without_downloads(_without_pretrained(value) if key == 'init_cfg' else value)
        return changed
    if isinstance(config, (list, tuple)):
        return type(config)(without_downloads(value) for value in config)
    return copy.deepcopy(config)


def _without_pretrained(init_cfg: Any) -> Any:
    """One initialisation or several, less those that load weights; ``None`` where nothing is left."""
    if isinstance(init_cfg, (list, tuple)):
        return type(init_cfg)(entry for entry in init_cfg if not _loads_weights(entry)) or None
    return None if _loads_weights(init_cfg) else init_cfg


def _loads_weights(entry: Any) -> bool:
    """Whether an initialisation names weights; some transformers of mmdet take a checkpoint without a type."""
    return type_name(entry) in PRETRAINED or (isinstance(entry, Mapping) and 'checkpoint' in entry)
