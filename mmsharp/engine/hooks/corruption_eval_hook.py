"""Scores robustness during training: after validation, the same validation set again, corrupted."""

import os
from collections.abc import Iterable
from typing import Any, Literal

import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import BaseLoop, EpochBasedTrainLoop
from mmengine.runner.amp import autocast

from mmsharp.datasets.transforms import CurrentCell
from mmsharp.engine.robustness.cell_metrics import check_evaluator, fill_empty, numbers
from mmsharp.engine.robustness.metric_names import check_metric
from mmsharp.engine.robustness.placement import place_corruption
from mmsharp.engine.robustness.sources import CorruptionSource, Position, choose_source
from mmsharp.engine.robustness.unscored_validations import deciders, let_wait
from mmsharp.errors import MmsharpError, deliberate_refusal
from mmsharp.registry import HOOKS
from mmsharp.robustness import (
    Backend,
    Cell,
    ChannelOrder,
    Constants,
    Grid,
    OnTheFly,
    Scores,
    check_order,
    choose_metric,
    score,
)
from mmsharp.sharpness import RandomState

PREFIX = 'robust/'


@HOOKS.register_module()
class CorruptionEvalHook(Hook):
    """Adds ``robust/mPC``, ``robust/rPC`` and a mean per family to the validation metrics.

    They join the metrics before checkpoints are chosen and values logged, so
    ``CheckpointHook(save_best='robust/mPC', rule='greater')`` and every visualizer see them. The passes use the
    validation loop's own data loader, evaluator and model; where ``EMAHook`` has put averaged weights into the model
    for validation, those are scored. By default one corruption of each family at severity 3: four more passes, a cheap
    and fixed indicator that is no mPC over the benchmark; :func:`mmsharp.apis.evaluate_robustness` measures that.

    Where a validation is not scored, it has no robust values, neither in its metrics nor in the log. That is so between
    the validations of ``interval``, and where the validation itself has no value, as that of a detector that finds
    nothing yet; the latter is logged as a warning. ``CheckpointHook``, ``EarlyStoppingHook`` and ``ReduceOnPlateauLR``
    that go by a robust value decide after the validations that have one and pass over the others, uncounted.

    Args:
        corruptions: Names and groups; see :func:`mmsharp.robustness.select`.
        severities: From 1 to 5; the clean value is the validation's own.
        interval: Score every so many validations, counted from the beginning of training (also after resuming), and
            the last.
        seed: Of the corruptions' random numbers, the same at each validation.
        metric: The metric that is averaged; by default as in :func:`mmsharp.robustness.choose_metric`.
        channel_order: See :class:`mmsharp.Corrupt`.
        image_order: See :func:`mmsharp.engine.robustness.placement.place_corruption`.
        position: See there.
        backend: See :class:`mmsharp.Corrupt`.
        constants: See :class:`mmsharp.Corrupt`.
        corrupted: A folder of corrupted images of the validation set, which are read instead of computed; see
            :func:`mmsharp.apis.evaluate_robustness`.

    Raises:
        MmsharpError: If an argument is out of range. When training begins: if something is decided by a robust value
            that there is not, the evaluator computes nothing or no metric that is the score, or images are too small
            to be corrupted.

    Example:
        >>> hook = CorruptionEvalHook(corruptions='noise', severities=(1, 3))
        >>> [str(cell) for cell in hook.grid.cells][:3]
        ['clean', 'gaussian_noise/1', 'gaussian_noise/3']
    """

    priority = 'ABOVE_NORMAL'
    """Before EMAHook takes the averaged weights out again, and before metrics are logged and checkpoints chosen."""

    def __init__(
        self,
        corruptions: str | Iterable[str] = ('gaussian_noise', 'defocus_blur', 'fog', 'jpeg_compression'),
        severities: Iterable[int] = (3,),
        interval: int = 1,
        seed: int = 0,
        metric: str | None = None,
        channel_order: ChannelOrder = 'rgb',
        image_order: ChannelOrder | Literal['auto'] = 'auto',
        position: Position | Literal['auto'] = 'auto',
        backend: Backend = 'mmsharp',
        constants: Constants = 'auto',
        corrupted: str | os.PathLike[str] | None = None,
    ) -> None:
        self.grid = Grid.of(corruptions, {0, *severities})
        if not self.grid.severities:
            raise MmsharpError('CorruptionEvalHook needs at least one severity from 1 to 5')
        if isinstance(interval, bool) or not isinstance(interval, int) or interval < 1:
            raise MmsharpError(f'interval {interval!r} of CorruptionEvalHook is not a positive integer')
        if image_order != 'auto':
            check_order('image_order', image_order)
        self.source: CorruptionSource = choose_source(corrupted, OnTheFly(seed, channel_order, backend, constants))
        self.interval = interval
        self.metric = metric
        self.image_order = image_order
        self.position = position
        self.current = CurrentCell()
        self._placed = False
        self._set_aside: dict[str, HistoryBuffer] = {}

    def before_train(self, runner: Any) -> None:
        """Refuse what could only fail at the first validation."""
        if runner.val_loop is None:
            return
        known = [f'{PREFIX}{name}' for name in _named(score({}, self.grid))]
        for who, name in deciders(runner, PREFIX):
            if name not in known:
                raise MmsharpError(f'{who} decides by {name}, and CorruptionEvalHook computes {", ".join(known)}')
        let_wait(runner, PREFIX)
        check_evaluator(runner.val_evaluator, self.metric)
        self._place(runner)
        check_metric(runner.val_loop, 'val_step', self.metric)

    def before_val(self, runner: Any) -> None:
        """Where nothing is trained, put the corruption into the validation pipeline now."""
        self._place(runner)

    def _place(self, runner: Any) -> None:
        """Put the corruption into the validation pipeline, where it does nothing until a cell is switched on."""
        if not self._placed:
            dataset = runner.val_dataloader.dataset
            place_corruption(dataset, self.current, self.source, self.image_order, self.position)
            state = RandomState.capture()  # images that are looked at must not move those of the training
            try:
                self.source.prepare(self.grid, dataset, self.current)  # before the data loader forks its workers
            finally:
                state.restore()
            self._placed = True

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Evaluate the cells and add the scores to ``metrics`` and to the message hub."""
        if metrics is None:
            return
        found = self._scores(runner, metrics) if self._due(runner) else {}
        scalars = runner.message_hub.log_scalars
        for key in [key for key in scalars if key.startswith(f'val/{PREFIX}')]:
            # Loggers take the last value of each, which would be an older validation's.
            self._set_aside[key] = scalars.pop(key)
        for key, value in found.items():
            metrics[key] = value
            if f'val/{key}' in self._set_aside:
                scalars[f'val/{key}'] = self._set_aside.pop(f'val/{key}')
            runner.message_hub.update_scalar(f'val/{key}', value)
        if metrics:
            # CheckpointHook fails where the key is missing and passes over None, as the others do now; without any
            # metric they do nothing.
            metrics.update({key: None for _, key in deciders(runner, PREFIX) if key not in metrics})

    def after_val(self, runner: Any) -> None:
        """Give the message hub the history of the values that this validation has not got."""
        runner.message_hub.log_scalars.update(self._set_aside)
        self._set_aside = {}

    def _scores(self, runner: Any, metrics: dict[str, Any]) -> dict[str, float]:
        """The scores that are defined, by name; none, with a warning, where the validation has no value itself."""
        clean = numbers(metrics)
        filled = dict(clean)
        fill_empty(filled, runner.val_evaluator, ())
        if not clean or filled != clean:
            lacks = ', '.join(sorted(set(filled) - set(clean))) or 'any metric'
            runner.logger.warning(
                f'this validation lacks {lacks}, as where nothing is detected; its robustness is not scored'
            )
            return {}
        name = choose_metric(clean, self.metric)
        values: dict[Cell, float | None] = {Cell.clean(): clean[name]}
        for cell in self.grid.cells:
            if not cell.is_clean:
                found = self._evaluate(runner, cell)
                fill_empty(found, runner.val_evaluator, clean)
                if name not in found:
                    runner.logger.warning(
                        f'{name} is a metric of the validation but not of its evaluator on {cell}, which gives '
                        f'{", ".join(sorted(found)) or "none"}; robustness is not scored'
                    )
                    return {}
                values[cell] = found[name]
        named = _named(score(values, self.grid))
        return {f'{PREFIX}{key}': value for key, value in named.items() if value is not None}

    def _due(self, runner: Any) -> bool:
        loop = runner._train_loop
        if not isinstance(loop, BaseLoop):
            return True  # validation without training
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        done, end = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        return done // loop.val_interval % self.interval == 0 or done >= end

    def _evaluate(self, runner: Any, cell: Cell) -> dict[str, float | None]:
        """One pass of validation without its hooks, which would take it for a validation of its own."""
        loop = runner.val_loop
        self.current.set(cell)
        try:
            # Starting an iterator draws from torch's generator; training must not depend on what is evaluated.
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                for batch in loop.dataloader:
                    with autocast(enabled=getattr(loop, 'fp16', False)):
                        outputs = runner.model.val_step(batch)
                    loop.evaluator.process(data_samples=outputs, data_batch=batch)
                return numbers(loop.evaluator.evaluate(len(loop.dataloader.dataset)))
        except MmsharpError as error:
            raise MmsharpError(f'cell {cell} stopped: {deliberate_refusal(error)}') from error
        finally:
            self.current.set(Cell.clean())


def _named(scores: Scores) -> dict[str, float | None]:
    """The scores that join the metrics."""
    return {'mPC': scores.mpc, 'rPC': scores.rpc, **scores.families}
