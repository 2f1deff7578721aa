"""Validations without a robust value: those who decide by it wait for the next that has one.

MMEngine's ``CheckpointHook`` passes over ``None`` and fails where the value is missing; ``EarlyStoppingHook`` fails at
``None`` and, by default, where it is missing; ``ReduceOnPlateauLR`` and its kin fail at both. An older value or NaN in
its place would count as one more validation without improvement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from mmengine.hooks import CheckpointHook, EarlyStoppingHook, ParamSchedulerHook


def deciders(runner: Any, prefix: str) -> list[tuple[str, str]]:
    """Who decides by a metric whose name begins with ``prefix``: the name of the class, and the metric.

    Args:
        runner: MMEngine's, with its hooks and parameter schedulers built.
        prefix: What the names begin with.
    """
    found: list[tuple[str, str]] = []
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best is not None:
            names = [hook.save_best] if isinstance(hook.save_best, str) else hook.save_best
            found += [(type(hook).__name__, name) for name in names]
        elif isinstance(hook, EarlyStoppingHook):
            found.append((type(hook).__name__, hook.monitor))
    found += [(type(item).__name__, item.monitor) for item in _schedulers(runner) if _watches(item)]
    return [(who, name) for who, name in found if name.startswith(prefix)]


def let_wait(runner: Any, prefix: str) -> None:
    """Let early stopping and schedulers pass over validations without the value that they watch; twice is as once.

    Args:
        runner: As for :func:`deciders`; its hooks are changed, nothing that is saved.
        prefix: What the names of the values begin with that may be missing.
    """
    for hook in runner.hooks:
        if isinstance(hook, EarlyStoppingHook) and hook.monitor.startswith(prefix):
            hook.after_val_epoch = partial(_stop_if_known, hook.after_val_epoch, hook.monitor)
        elif isinstance(hook, ParamSchedulerHook):
            hook.after_val_epoch = partial(_step_if_known, hook.after_val_epoch, prefix)


def _stop_if_known(
    after: Callable[..., None], monitor: str, runner: Any, metrics: Mapping[str, Any] | None = None
) -> None:
    if metrics is not None and metrics.get(monitor) is not None:
        after(runner, metrics=metrics)


def _step_if_known(
    after: Callable[..., None], prefix: str, runner: Any, metrics: Mapping[str, Any] | None = None
) -> None:
    """Step without the schedulers that would fail."""

    def waits(scheduler: Any) -> bool:
        return _watches(scheduler) and scheduler.monitor.startswith(prefix) and known.get(scheduler.monitor) is None

    known = metrics or {}
    schedulers = runner.param_schedulers
    if isinstance(schedulers, dict):
        runner.param_schedulers = {
            name: [item for item in part if not waits(item)] for name, part in schedulers.items()
        }
    elif schedulers is not None:
        runner.param_schedulers = [item for item in schedulers if not waits(item)]
    try:
        after(runner, metrics=metrics)
    finally:
        runner.param_schedulers = schedulers


def _schedulers(runner: Any) -> Iterator[Any]:
    found = getattr(runner, 'param_schedulers', None) or []
    for part in found.values() if isinstance(found, dict) else [found]:
        yield from part


def _watches(scheduler: Any) -> bool:
    return bool(getattr(scheduler, 'need_val_args', False)) and isinstance(getattr(scheduler, 'monitor', None), str)
