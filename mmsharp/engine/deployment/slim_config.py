"""The config of a slim model, and the ordinary one before it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmsharp.engine.checkpoints.mask_search_checkpoint import ordinary_of
from mmsharp.engine.configs.config_text import plain_settings
from mmsharp.engine.deployment.files import RECIPE, REPORT
from mmsharp.files import read_json
from mmsharp.models import without_downloads
from mmsharp.pruning import Recipe
from mmsharp.type_names import type_name

PRUNING_HOOKS = ('PruningHook', 'AdaSAPHook', 'PSAPHook', 'MaskSearchHook')


def slim_config(config: Config) -> Config:
    """The config of the slim model: complete, without bases, to be kept beside ``recipe.json``.

    Everything stays but the model's type (now ``mmsharp.SlimModel``), the pruning hook, and where training started
    from: the slim model is not pruned again. Classes, which pure-Python configs import, become names.

    Raises:
        MmsharpError: As :func:`mmsharp.engine.configs.config_text.plain_settings`.
    """
    slim = Config(plain_settings(config))
    base = slim.model.pop('type')
    slim.model = dict(
        type='mmsharp.SlimModel', base=base, recipe='{{ fileDirname }}/' + RECIPE, **without_downloads(slim.model)
    )
    slim.custom_imports = _with_mmsharp(slim.get('custom_imports') or {})
    if slim.get('default_hooks'):
        slim.default_hooks = {name: hook for name, hook in slim.default_hooks.items() if not prunes(hook)}
    if slim.get('custom_hooks'):
        slim.custom_hooks = [hook for hook in slim.custom_hooks if not prunes(hook)]
    slim.load_from, slim.resume = None, False
    slim.pop('work_dir', None)
    return slim


def ordinary_config(config: Config) -> tuple[Config, Recipe, tuple[int, ...] | None]:
    """The config before slimming, what a slim one keeps of its network, and the input shape noted beside its recipe.

    An ordinary config comes back as it is, with a recipe of nothing; from that of a mask search the masks are taken.

    Raises:
        MmsharpError: The recipe that a slim config names is missing or malformed.
    """
    if type_name(config.model) not in ('SlimModel', 'slim_model'):
        return ordinary_of(config), Recipe({}), None
    ordinary = copy.deepcopy(config)
    given = ordinary.model.pop('recipe', None)
    ordinary.model.type = ordinary.model.pop('base')
    if isinstance(given, Mapping):
        return ordinary, Recipe.from_dict(given), None
    return ordinary, Recipe.load(given or ''), _shape_beside(Path(given or ''))


def prunes(hook: Any) -> bool:
    """Whether a hook of a config is one that prunes."""
    return type_name(hook).endswith(PRUNING_HOOKS)


def _shape_beside(recipe: Path) -> tuple[int, ...] | None:
    """The input shape in the report of the deployment that a recipe belongs to, if it is still there."""
    report = recipe.with_name(REPORT)
    shape = read_json(report, 'run tools/slim.py again').get('input_shape') if report.is_file() else None
    if not isinstance(shape, list) or len(shape) != 3 or not all(type(size) is int and size > 0 for size in shape):
        return None
    return tuple(shape)


def _with_mmsharp(custom_imports: Mapping[str, Any]) -> dict[str, Any]:
    """The config's own imports, which may be one name or several, and mmsharp."""
    imports = custom_imports.get('imports') or []
    names = [imports] if isinstance(imports, str) else list(imports)
    allowed = custom_imports.get('allow_failed_imports', False)
    return dict(imports=sorted({*names, 'mmsharp'}), allow_failed_imports=allowed)
