"""Build a model: dense, masked or slim."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from mmsharp.apis.configs import as_config
from mmsharp.engine.checkpoints.checkpoint_fit import check_fit, weights_of
from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint, plain_checkpoints
from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.models import without_masks
from mmsharp.pruning import apply_recipe


@plain_checkpoints()
def init_model(
    config: str | os.PathLike[str] | Config,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device = 'cpu',
    cfg_options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a model in evaluation mode, with the weights of a dense, masked or slim checkpoint.

    What comes back has ``cfg`` and, where the checkpoint knows it, ``dataset_meta``, so that the toolboxes' own
    ``inference_detector(model, image)`` and ``inference_model`` work with it.

    Args:
        config: The ordinary config, or the one that :func:`slim` writes; not changed.
        checkpoint: Its weights, opened as plain data only; they have to fit. ``None`` leaves the initial ones.
        device: Where the model goes.
        cfg_options: Changes of the config, as the toolboxes' ``--cfg-options``.

    Raises:
        MmsharpError: The config or the checkpoint cannot be read, or they do not fit together.
    """
    cfg = as_config(config, cfg_options)
    model = build_model(cfg)
    if checkpoint is not None:
        content = check_checkpoint(checkpoint)
        state = PruningState.from_checkpoint(content)
        weights = weights_of(content, os.fspath(checkpoint))
        if state.kind == 'slim' and state.recipe is not None and not state.fits(model, weights):
            without_masks(model)
            apply_recipe(model, state.recipe)
        check_fit(model, weights, os.fspath(checkpoint))
        model.load_state_dict(weights, strict=False)
        meta = (content.get('meta') or {}).get('dataset_meta') or {}
        model.dataset_meta = {key.lower(): value for key, value in meta.items()}  # type: ignore[assignment]
    model.cfg = cfg
    model.to(device)
    return model
