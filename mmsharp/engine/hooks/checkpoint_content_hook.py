"""Refuse a checkpoint that holds no weights, before any hook looks for them."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from mmsharp.engine.checkpoints.checkpoint_fit import check_resumable, weights_of
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.registry import HOOKS


@HOOKS.register_module()
class CheckpointContentHook(Hook):
    """Checks what a checkpoint holds as soon as it is read; whether it fits the model is for ``CheckpointFitHook``.

    Args:
        source: The path of the checkpoint, for the message.

    Raises:
        MmsharpError: It has no weights or a malformed state of pruning or, where it is resumed, no progress.
    """

    priority = 'VERY_HIGH'
    """Before the hooks that read weights from it: those that prune, and MMEngine's EMAHook."""

    def __init__(self, source: str) -> None:
        self.source = source

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Look for everything that is read later."""
        (check_resumable if runner._resume else weights_of)(checkpoint, self.source)
        PruningState.from_checkpoint(checkpoint)
