"""What stands between a checkpoint and the model of a run."""

from __future__ import annotations

from mmengine.runner import Runner

from mmsharp.engine.hooks import CheckpointContentHook, CheckpointFitHook


def guard_checkpoint(runner: Runner, source: str, partly: bool = False) -> None:
    """Let a run refuse a checkpoint that holds no weights or does not fit.

    Args:
        runner: The run; nothing is loaded yet.
        source: The path of the checkpoint, for the message.
        partly: Whether a part is enough, see :class:`mmsharp.engine.hooks.CheckpointFitHook`.
    """
    runner.register_hook(CheckpointContentHook(source), priority='VERY_HIGH')
    runner.register_hook(CheckpointFitHook(source, partly), priority='VERY_LOW')
