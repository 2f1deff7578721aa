"""Refuse a checkpoint that does not fit, where MMEngine would log a warning and evaluate noise."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook

from mmsharp.engine.checkpoints.checkpoint_fit import check_fit, check_some_fit
from mmsharp.engine.model_access.inner_model import inner_model
from mmsharp.registry import HOOKS


@HOOKS.register_module()
class CheckpointFitHook(Hook):
    """Checks every checkpoint against the model just before its weights are copied.

    Args:
        source: The path of the checkpoint, for the message.
        partly: Whether a part is enough, as for fine-tuning with another head. What is resumed has to fit in full.

    Raises:
        MmsharpError: Naming the first key, the expected and the found shape, and what to do.
    """

    priority = 'VERY_LOW'
    """After the hooks that give the model the shapes of a slim checkpoint."""

    def __init__(self, source: str, partly: bool = False) -> None:
        self.source = source
        self.partly = partly

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Compare names and shapes."""
        check = check_some_fit if self.partly and not runner._resume else check_fit
        check(inner_model(runner.model), checkpoint, self.source)
