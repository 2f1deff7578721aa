"""The runner that a config describes."""

from __future__ import annotations

import inspect

from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmsharp.errors import MmsharpError


def build_runner(config: Config) -> Runner:
    """MMEngine's runner, or one derived from it that ``runner_type`` names.

    Raises:
        MmsharpError: ``runner_type`` is unknown, or of another kind, as MMEngine's ``FlexibleRunner``, which keeps
            model and optimizer in a strategy (DeepSpeed, FSDP, ColossalAI).

    Example:
        >>> build_runner(Config(dict(runner_type='FlexibleRunner')))
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: runner_type='FlexibleRunner' is no kind of mmengine.runner.Runner, ...
    """
    name = config.get('runner_type')
    if name is None:
        return Runner.from_cfg(config)
    kind = RUNNERS.get(name) if isinstance(name, str) else name
    if not (inspect.isclass(kind) and issubclass(kind, Runner)):
        raise MmsharpError(
            f'runner_type={name!r} is no kind of mmengine.runner.Runner, which the hooks and tools of mmsharp work '
            'with; leave it out: distributed training goes by --launcher'
        )
    return RUNNERS.build(config)
