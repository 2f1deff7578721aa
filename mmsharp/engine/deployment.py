"""From a training checkpoint to a deployable one: slim weights, config and recipe in one folder."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmsharp.engine.checkpoints.checkpoint_fit import check_fit, weights_of
from mmsharp.engine.checkpoints.mask_search_checkpoint import as_pruned, ordinary_of
from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint, plain_checkpoints
from mmsharp.engine.configs.config import load_config
from mmsharp.engine.configs.config_errors import naming_broken_config
from mmsharp.engine.configs.config_text import config_text, plain_settings
from mmsharp.engine.costs.model_cost import measure_costs
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.errors import MmsharpError, one_line
from mmsharp.files import hold, read_json, release, write_json, write_text
from mmsharp.models import without_downloads
from mmsharp.pruning import Forward, Recipe, apply_recipe, count_parameters, tensor_forward
from mmsharp.pruning.forwards import looked_at
from mmsharp.pruning.forwards.image_sample import image_sample
from mmsharp.pruning.forwards.image_scale import images_like
from mmsharp.pruning.forwards.model_copies import model_copy
from mmsharp.pruning.slimming.slim_difference import MASKED_EQUALS_SLIM, slim_difference
from mmsharp.type_names import type_name
from mmsharp.version import __version__

WEIGHTS, CONFIG, RECIPE, REPORT = 'slim.pth', 'config.py', 'recipe.json', 'slim.json'
STAGING = '.slim.partial'
LOCK = '.slim.lock'
PRUNING_HOOKS = ('PruningHook', 'AdaSAPHook', 'PSAPHook', 'MaskSearchHook')
LATENCY_SLACK = 1.15
"""Share of a latency budget up to which a measured latency agrees with it."""


def build_model(config: Config) -> nn.Module:
    """Build the model of a config on the CPU, in evaluation mode, without loading or downloading any weights."""
    init_default_scope(config.get('default_scope') or 'mmengine')
    description = copy.deepcopy(without_downloads(config.model))
    preprocessor = config.get('data_preprocessor')
    if preprocessor is not None:
        description.setdefault('data_preprocessor', copy.deepcopy(preprocessor))
    with naming_broken_config(config.filename):
        model = MODELS.build(description)
    model.eval()  # not chained: some models' train() returns nothing
    return model


@plain_checkpoints()
def deploy(config: Config, checkpoint_path: str, folder: str | os.PathLike[str], repeats: int = 30) -> dict[str, Any]:
    """Write ``slim.pth``, ``config.py``, ``recipe.json`` and ``slim.json`` into a folder.

    A masked checkpoint is cut to its recipe if that changes no output, an already slim one is only stripped. MMEngine
    stores the EMA weights, where there are any, as the checkpoint's ``state_dict``; those are taken. Optimizer state
    and the message hub stay behind.

    All four files are written to a hidden folder inside ``folder`` first, and the model is built from them once. Then
    an earlier ``config.py`` is removed, the other three take their places, and the new ``config.py`` comes last. So
    whenever ``config.py`` is there, the files beside it belong to it: a refusal, a full disk or a kill before the
    exchange leaves an earlier deployment as it was; after a kill amid the exchange ``config.py`` is missing, no tool
    loads a mixture, and the same call again completes the folder. Other files in it are not touched. This is promised
    for processes that are killed; a machine that loses power may lose what its disk had not yet written.

    Args:
        config: The config that the checkpoint was trained with, the ordinary one or that of a slim model which was
            trained on or pruned again; not changed.
        checkpoint_path: A checkpoint written while ``PruningHook`` or ``AdaSAPHook`` was at work, or one of a slim
            model.
        folder: Where to write; made if missing.
        repeats: Forward passes for the latency.

    Returns:
        ``{'dense': {...}, 'slim': {...}, 'input_shape': [...], 'notes': [...]}`` with ``parameters``, ``macs`` and
        ``latency_ms`` (measured in turns), and what the user should know.

    Raises:
        MmsharpError: The checkpoint is unsafe, broken, not pruned, or does not fit the config, the slim model does not
            run or would not compute what the masked one does, or the config holds something that no config file can
            say.
    """
    checkpoint = check_checkpoint(checkpoint_path)
    weights = weights_of(checkpoint, checkpoint_path)
    ordinary, earlier, shape = ordinary_config(config)
    state, weights = as_pruned(config, PruningState.from_checkpoint(checkpoint), weights, checkpoint_path)
    if state.recipe is None and not earlier.modules:
        raise MmsharpError(
            f'checkpoint {checkpoint_path!r} is dense: nothing in it has been pruned; give one that was written during '
            'or after the pruning phase of mmsharp.PruningHook or mmsharp.AdaSAPHook'
        )
    if state.recipe is None:
        state = PruningState('slim', earlier, shape)
    assert state.recipe is not None
    recipe = earlier if state.recipe == earlier else _together(earlier, state.recipe, checkpoint_path)
    dense = build_model(ordinary)
    slim = model_copy(dense)
    _cut(slim, earlier if state.kind == 'masked' else recipe, checkpoint_path)
    check_fit(slim, weights, checkpoint_path)
    slim.load_state_dict(weights, strict=False)
    notes: list[str] = []
    if state.kind == 'masked':
        notes = _check_equal(slim, state.recipe, state.input_shape, checkpoint_path)
        _cut(slim, state.recipe, checkpoint_path)
    _check_runs(dense, slim, recipe, state.input_shape, checkpoint_path)
    text = config_text(slim_config(ordinary))
    report = _compare(dense, slim, state.input_shape, repeats)
    report['notes'] = notes + _budget_notes(ordinary, report)
    meta = dict(
        mmsharp=state.slimmed(recipe).to_dict(),
        mmsharp_version=__version__,
        mmengine_version=mmengine.__version__,
        dataset_meta=(checkpoint.get('meta') or {}).get('dataset_meta', {}),
    )
    with _staged(Path(folder)) as staging:
        torch.save(dict(meta=meta, state_dict=slim.state_dict()), staging / WEIGHTS)
        recipe.save(staging / RECIPE)
        write_text(staging / CONFIG, text)
        write_json(staging / REPORT, report)
        check_fit(build_model(load_config(staging / CONFIG)), slim.state_dict(), WEIGHTS)
    return report


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
        slim.default_hooks = {name: hook for name, hook in slim.default_hooks.items() if not _prunes(hook)}
    if slim.get('custom_hooks'):
        slim.custom_hooks = [hook for hook in slim.custom_hooks if not _prunes(hook)]
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


def _shape_beside(recipe: Path) -> tuple[int, ...] | None:
    """The input shape in the report of the deployment that a recipe belongs to, if it is still there."""
    report = recipe.with_name(REPORT)
    shape = read_json(report, 'run tools/slim.py again').get('input_shape') if report.is_file() else None
    if not isinstance(shape, list) or len(shape) != 3 or not all(type(size) is int and size > 0 for size in shape):
        return None
    return tuple(shape)


def _together(earlier: Recipe, later: Recipe, checkpoint_path: str) -> Recipe:
    try:
        return earlier.followed_by(later)
    except MmsharpError as error:
        raise MmsharpError(
            f'the config describes a slim model already, and the recipe in checkpoint {checkpoint_path!r} was not '
            f'written for it ({error}); give the ordinary config that the checkpoint was trained with'
        ) from error


def _with_mmsharp(custom_imports: Mapping[str, Any]) -> dict[str, Any]:
    """The config's own imports, which may be one name or several, and mmsharp."""
    imports = custom_imports.get('imports') or []
    names = [imports] if isinstance(imports, str) else list(imports)
    allowed = custom_imports.get('allow_failed_imports', False)
    return dict(imports=sorted({*names, 'mmsharp'}), allow_failed_imports=allowed)


def _prunes(hook: Any) -> bool:
    return type_name(hook).endswith(PRUNING_HOOKS)


def _cut(model: nn.Module, recipe: Recipe, checkpoint_path: str) -> None:
    try:
        apply_recipe(model, recipe)
    except MmsharpError as error:
        raise MmsharpError(
            f'the recipe in checkpoint {checkpoint_path!r} does not fit {type(model).__name__}: {error}; give the '
            'config that it was trained with'
        ) from error


def _check_equal(masked: nn.Module, recipe: Recipe, shape: tuple[int, ...] | None, checkpoint_path: str) -> list[str]:
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


def _check_runs(
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


def _compare(dense: nn.Module, slim: nn.Module, shape: tuple[int, ...] | None, repeats: int) -> dict[str, Any]:
    models = {'dense': dense, 'slim': slim}
    if shape is None:
        unknown = dict(macs=None, latency_ms=None)
        costs = [dict(unknown, parameters=count_parameters(model)) for model in models.values()]
    else:
        image = images_like(dense, shape)
        costs = measure_costs([(model, image, [image_sample(shape)]) for model in models.values()], repeats)
    return dict(input_shape=None if shape is None else list(shape), **dict(zip(models, costs)))


def _budget_notes(config: Config, report: Mapping[str, Any]) -> list[str]:
    """What the config's pruning hook asked for, where the checkpoint keeps more: it is from before the end."""
    hooks = [*(config.get('default_hooks') or {}).values(), *(config.get('custom_hooks') or [])]
    notes = []
    for budget in [hook.get('budget') or {} for hook in hooks if hook and _prunes(hook)]:
        for resource, key in (('params', 'parameters'), ('macs', 'macs')):
            if resource in budget and report['dense'][key]:
                kept = report['slim'][key] / report['dense'][key]
                if kept > budget[resource] + 1e-3:
                    notes.append(
                        f'{kept:.1%} of the {key} are left, more than the budget {resource}={budget[resource]}: this '
                        'checkpoint was written before pruning had ended (save_best may choose such a one)'
                    )
        if 'latency' in budget and report['dense']['latency_ms']:
            kept = report['slim']['latency_ms'] / report['dense']['latency_ms']
            if kept > LATENCY_SLACK * budget['latency']:
                notes.append(
                    f'{kept:.0%} of the latency is left in PyTorch on this machine, more than the budget '
                    f'latency={budget["latency"]}: its table predicts another device or engine, this machine was busy, '
                    'or the checkpoint was written before pruning had ended'
                )
    return notes


@contextmanager
def _only_writer(folder: Path) -> Iterator[bool]:
    """Hold a folder against other processes, on this machine or another; a kill lets go of it.

    Gives whether it is held: not where the file system has no locks.

    Raises:
        MmsharpError: Another one holds it.
    """
    refusal = f'another process is writing a slim model to {str(folder)!r}; wait for it or give another folder'
    path = folder / LOCK
    with open(path, 'a+b') as file:
        held = hold(file, refusal)
        if held and not (path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())):
            raise MmsharpError(refusal)  # who held it has finished in between, and taken it away
        try:
            yield held
        finally:
            path.unlink(missing_ok=True)
            release(file)


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A folder inside ``folder`` to write the four files to; on leaving they take the place of those before.

    The config goes first and comes last: while it is there, the files beside it are those that it was written with.
    """
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _only_writer(folder) as alone:
            staging = folder / f'{STAGING}.{os.getpid()}'
            for left in folder.glob(f'{STAGING}*') if alone else ():
                shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
            try:
                staging.mkdir(exist_ok=True)
                yield staging
                (folder / CONFIG).unlink(missing_ok=True)
                for name in (RECIPE, WEIGHTS, REPORT, CONFIG):
                    os.replace(staging / name, folder / name)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    finally:
        if not existed and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()
