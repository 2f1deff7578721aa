"""Scores robustness during training: after validation, the same validation set again, corrupted."""

import os
from collections.abc import Iterable
from typing import Any, Literal

import torch
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop
from mmengine.runner.amp import autocast

from mmsharp.datasets.transforms import CurrentCell
from mmsharp.engine.robustness.cell_metrics import fill_empty, numbers
from mmsharp.engine.robustness.placement import place_corruption
from mmsharp.engine.robustness.sources import CorruptionSource, Position, choose_source
from mmsharp.errors import MmsharpError, deliberate_refusal
from mmsharp.registry import HOOKS
from mmsharp.robustness import (
    Backend,
    Cell,
    ChannelOrder,
    Constants,
    Grid,
    OnTheFly,
    check_order,
    choose_metric,
    score,
)


@HOOKS.register_module()
class CorruptionEvalHook(Hook):
    """Adds ``robust/mPC``, ``robust/rPC`` and a mean per family to the validation metrics.

    They join the metrics before checkpoints are chosen and values logged, so
    ``CheckpointHook(save_best='robust/mPC', rule='greater')`` and every visualizer see them. The passes use the
    validation loop's own data loader, evaluator and model; where ``EMAHook`` has put averaged weights into the model
    for validation, those are scored. By default one corruption of each family at severity 3: four more passes, a cheap
    and fixed indicator that is no mPC over the benchmark; :func:`mmsharp.apis.evaluate_robustness` measures that.

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
        MmsharpError: If an argument is out of range, or the run has no validation.

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

    def before_val(self, runner: Any) -> None:
        """Put the corruption into the validation pipeline, where it does nothing until a cell is switched on."""
        if not self._placed:
            dataset = runner.val_dataloader.dataset
            place_corruption(dataset, self.current, self.source, self.image_order, self.position)
            self.source.prepare(self.grid, dataset, self.current)  # before the data loader forks its workers
            self._placed = True

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Evaluate the cells and add the scores to ``metrics`` and to the message hub."""
        if metrics is None or not self._due(runner):
            return
        clean = numbers(metrics)
        name = choose_metric(clean, self.metric)
        values: dict[Cell, float | None] = {Cell.clean(): clean[name]}
        for cell in self.grid.cells:
            if not cell.is_clean:
                found = self._evaluate(runner, cell)
                fill_empty(found, runner.val_evaluator, clean)
                values[cell] = found.get(name)
        scores = score(values, self.grid)
        named = {'mPC': scores.mpc, 'rPC': scores.rpc, **scores.families}
        for key, value in named.items():
            if value is not None:
                metrics[f'robust/{key}'] = value
                runner.message_hub.update_scalar(f'val/robust/{key}', value)

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
