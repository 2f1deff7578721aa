"""From a training checkpoint to a deployable one: slim weights, config and recipe in one folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.config import Config

from mmsharp.engine.checkpoints.checkpoint_fit import check_fit, weights_of
from mmsharp.engine.checkpoints.mask_search_checkpoint import as_pruned
from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint, plain_checkpoints
from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.configs.config import load_config
from mmsharp.engine.configs.config_text import config_text
from mmsharp.engine.deployment.files import CONFIG, RECIPE, REPORT, WEIGHTS, staged
from mmsharp.engine.deployment.refused_recipes import check_equal, check_runs, cut, together
from mmsharp.engine.deployment.slim_config import ordinary_config, slim_config
from mmsharp.engine.deployment.slim_report import budget_notes, compare
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.errors import MmsharpError
from mmsharp.files import write_json, write_text
from mmsharp.pruning.forwards.model_copies import model_copy
from mmsharp.version import __version__


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
        check_fit(build_model(ordinary), weights, checkpoint_path)
        raise MmsharpError(
            f'checkpoint {checkpoint_path!r} is dense: nothing in it has been pruned; give one that was written during '
            'or after the pruning phase of mmsharp.PruningHook or mmsharp.AdaSAPHook'
        )
    if state.recipe is None:
        state = PruningState('slim', earlier, shape)
    assert state.recipe is not None
    recipe = earlier if state.recipe == earlier else together(earlier, state.recipe, checkpoint_path)
    dense = build_model(ordinary)
    slim = model_copy(dense)
    cut(slim, earlier if state.kind == 'masked' else recipe, checkpoint_path)
    check_fit(slim, weights, checkpoint_path)
    slim.load_state_dict(weights, strict=False)
    notes: list[str] = []
    if state.kind == 'masked':
        notes = check_equal(slim, state.recipe, state.input_shape, checkpoint_path)
        cut(slim, state.recipe, checkpoint_path)
    check_runs(dense, slim, recipe, state.input_shape, checkpoint_path)
    text = config_text(slim_config(ordinary))
    report = compare(dense, slim, state.input_shape, repeats)
    report['notes'] = notes + budget_notes(ordinary, report)
    meta = dict(
        mmsharp=state.slimmed(recipe).to_dict(),
        mmsharp_version=__version__,
        mmengine_version=mmengine.__version__,
        dataset_meta=(checkpoint.get('meta') or {}).get('dataset_meta', {}),
    )
    with staged(Path(folder)) as staging:
        torch.save(dict(meta=meta, state_dict=slim.state_dict()), staging / WEIGHTS)
        recipe.save(staging / RECIPE)
        write_text(staging / CONFIG, text)
        write_json(staging / REPORT, report)
        check_fit(build_model(load_config(staging / CONFIG)), slim.state_dict(), WEIGHTS)
    return report
