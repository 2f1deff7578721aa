"""From a checkpoint to what is deployed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from mmsharp.apis.configs import as_config
from mmsharp.apis.models import init_model
from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint, plain_checkpoints
from mmsharp.engine.deployment.deploy import deploy
from mmsharp.engine.export.onnx_export import export_onnx
from mmsharp.engine.export.raw_outputs import preprocessing
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.errors import MmsharpError


def slim(
    config: str | os.PathLike[str] | Config,
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    cfg_options: Mapping[str, Any] | None = None,
    repeats: int = 30,
) -> dict[str, Any]:
    """Turn a masked or slim training checkpoint into a folder with a deployable model.

    Args:
        config: The config that the checkpoint was trained with, ordinary or slim; not changed.
        checkpoint: Written while ``PruningHook`` or ``AdaSAPHook`` was at work, or of a slim model.
        out: The folder; see :func:`mmsharp.engine.deployment.deploy.deploy` for what is written and replaced.
        cfg_options: Changes of the config, as the toolboxes' ``--cfg-options``.
        repeats: Forward passes for the latency.

    Returns:
        ``{'dense': {...}, 'slim': {...}, 'input_shape': [...], 'notes': [...]}`` with ``parameters``, ``macs`` and
        ``latency_ms`` (measured in turns), and what the user should know.

    Raises:
        MmsharpError: The checkpoint is unsafe, broken, not pruned, or does not fit the config.
    """
    return deploy(as_config(config, cfg_options), os.fspath(checkpoint), out, repeats)


@plain_checkpoints()
def export(
    config: str | os.PathLike[str] | Config,
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    opset: int | None = None,
    cfg_options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a dense, masked or slim model as ONNX, checked in onnxruntime.

    Args:
        config: The config of the model, ordinary or slim; not changed.
        checkpoint: Its weights.
        out: The ``.onnx`` file, which appears as a whole or not at all.
        size: Height and width of the images; by default those that the checkpoint was pruned with.
        opset: Version of the ONNX operators; by default 18, and 19 for networks with deformable convolutions.
        cfg_options: Changes of the config, as the toolboxes' ``--cfg-options``.

    Returns:
        As :func:`mmsharp.engine.export.onnx_export.export_onnx`.

    Raises:
        MmsharpError: No size is known, or as :func:`init_model` and
            :func:`mmsharp.engine.export.onnx_export.export_onnx`.
    """
    cfg = as_config(config, cfg_options)
    noted = PruningState.from_checkpoint(check_checkpoint(checkpoint)).input_shape
    if size is not None:
        noted = (3 if noted is None else noted[0], *size)
    if noted is None:
        raise MmsharpError(
            f'checkpoint {os.fspath(checkpoint)!r} does not say for which image size; give --shape HEIGHT WIDTH'
        )
    model = init_model(cfg, checkpoint)
    return export_onnx(model, out, noted, opset, preprocessing(model))
