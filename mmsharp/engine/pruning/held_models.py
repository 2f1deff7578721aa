"""What a runner holds of one model: the model itself, its averages, and what was derived from its shapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import EMAHook
from torch import nn

from mmsharp.engine.distributed.wrap_again import wrap_again
from mmsharp.engine.model_access.inner_model import inner_model


def held_models(runner: Any) -> Iterator[nn.Module]:
    """The model and its averaged shadows, without distributed wrappers: what masks and recipes apply to."""
    yield inner_model(runner.model)
    yield from shadows(runner)


def shadows(runner: Any) -> Iterator[nn.Module]:
    """The averaged models of EMA hooks, without wrappers."""
    for averaged in averages(runner):
        yield inner_model(averaged.module)


def averages(runner: Any) -> Iterator[Any]:
    """What EMA hooks average with."""
    for hook in runner.hooks:
        if isinstance(hook, EMAHook) and hasattr(hook, 'ema_model'):
            yield hook.ema_model


def take_new_shapes(runner: Any) -> None:
    """Let all that was derived from the model's shapes follow after it has been slimmed."""
    for averaged in averages(runner):
        if averaged.update_buffers:
            # It keeps the tensors of a state dict, which still have the old shapes.
            averaged.avg_parameters = averaged.module.state_dict()
    if hasattr(runner.optim_wrapper, 'forget_model'):
        runner.optim_wrapper.forget_model()
    wrap_again(runner)
