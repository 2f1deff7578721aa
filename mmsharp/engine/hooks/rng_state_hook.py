"""Random numbers that go on after a resume where they stopped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop

from mmsharp.errors import MmsharpError
from mmsharp.registry import HOOKS
from mmsharp.sharpness import RandomState

KEY = 'mmsharp_rng_state'


@HOOKS.register_module()
class RNGStateHook(Hook):
    """Saves the random states of every process with each checkpoint, and restores them on resuming.

    MMEngine saves none, so a resumed run draws other augmentations and dropout masks than one that was never
    interrupted. With this hook both end bitwise alike: from epoch boundaries in epoch loops and from any iteration in
    iteration loops, as long as data is loaded in the main process or without random transforms (worker processes have
    random states of their own, which nobody can save), and a checkpoint does not fall between two micro-batches of an
    accumulated step (of which our wrappers, in one process, keep the gradients). For that, validation does not move the
    random states of training either.

    Switched on by one line: ``default_hooks = dict(rng_state=dict(type='mmsharp.RNGStateHook'))``.
    """

    priority = 'VERY_HIGH'
    """Restores before other hooks draw."""

    def __init__(self) -> None:
        self._loaded: RandomState | None = None
        self._before_validation: RandomState | None = None
        self._gathered: list[dict[str, Any]] | None = None

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Remember this process's states until the first data is drawn.

        Raises:
            MmsharpError: The entry is malformed.
        """
        if not runner._resume:
            return
        states = checkpoint.get(KEY)
        if states is None:
            print_log('the checkpoint holds no random states (mmsharp.RNGStateHook was off); others will be drawn')
        elif len(states) != get_world_size():
            print_log(
                f'the checkpoint holds the random states of {len(states)} processes, but now there are '
                f'{get_world_size()}; others will be drawn',
                'current',
                logging.WARNING,
            )
        else:
            try:
                self._loaded = RandomState.from_dict(states[get_rank()])
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise MmsharpError(f'the checkpoint entry {KEY!r} is malformed: {error!r}') from error

    def before_train_epoch(self, runner: Any) -> None:
        """Restore, in iteration loops only once the data that had been seen was passed over."""
        state, self._loaded = self._loaded, None
        if state is None:
            return
        loop = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop):
            state.restore()
        else:
            loop.dataloader_iterator = _RestoringIterator(loop.dataloader_iterator, state)

    def before_val(self, runner: Any) -> None:
        """Put the states of training aside; MMEngine writes a checkpoint during validation where it is the best yet."""
        self._before_validation = RandomState.capture()
        self._gather()

    def after_val(self, runner: Any) -> None:
        """Take them back."""
        if self._before_validation is not None:
            self._before_validation.restore()
            self._before_validation = None

    def after_train_epoch(self, runner: Any) -> None:
        """Gather all processes' states while all of them are here; checkpoints are written by the first alone."""
        self._gather()

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Gather in the iterations whose end is saved."""
        if get_world_size() > 1 and any(_saves_now(hook, runner) for hook in runner.hooks):
            self._gather()

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Put the states into the checkpoint, as tensors and plain data."""
        if get_world_size() > 1:
            states = self._gathered
        else:
            states = [(self._before_validation or RandomState.capture()).to_dict()]
        if states is not None:
            checkpoint[KEY] = states

    def _gather(self) -> None:
        if get_world_size() > 1:
            self._gathered = all_gather_object(RandomState.capture().to_dict())


class _RestoringIterator:
    """A data iterator that restores random states just before it gives data for the first time."""

    def __init__(self, inner: Any, state: RandomState) -> None:
        self._inner = inner
        self._state: RandomState | None = state

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._state is not None:
            # Making the iterator draws a seed for its workers, which the uninterrupted run did long ago.
            getattr(self._inner, '_ensure_iterator', lambda: None)()
            self._state.restore()
            self._state = None
        return next(self._inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def _saves_now(hook: Hook, runner: Any) -> bool:
    """Whether a checkpoint hook saves after this iteration, as MMEngine's own method decides."""
    if not isinstance(hook, CheckpointHook) or hook.by_epoch:
        return False
    due = hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
    return due or (hook.save_last and hook.is_last_train_iter(runner))
