"""Evaluate a model over a corruption grid with MMEngine's own test loop: build once, switch the cell, run again.

Model, dataset, workers and evaluator are built once. Before each pass the current cell is switched in memory that the
workers share (:class:`mmsharp.datasets.transforms.CurrentCell`), so living workers serve every cell. What a metric
returns for a cell goes to ``results.jsonl`` before the next cell begins.
"""

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from mmsharp.datasets.transforms import CurrentCell
from mmsharp.datasets.transforms.corrupt import ChannelOrder
from mmsharp.engine.annotation_errors import naming_broken_annotations
from mmsharp.engine.cell_metrics import fill_empty, numbers
from mmsharp.engine.cell_progress import CellProgress
from mmsharp.engine.checkpoint_guard import guard_checkpoint
from mmsharp.engine.config import check_data
from mmsharp.engine.config_errors import naming_broken_config
from mmsharp.engine.corruption_placement import Placement, Position, place_corruption
from mmsharp.engine.inner_model import inner_model
from mmsharp.engine.robust_config import prepare_config
from mmsharp.engine.robust_identity import build_identity
from mmsharp.engine.safe_checkpoint import check_checkpoint
from mmsharp.errors import MmsharpError, deliberate_refusal
from mmsharp.robustness import (
    Backend,
    Cell,
    CellResult,
    Constants,
    Grid,
    ResultStore,
    choose_metric,
    prepare,
    settle_constants,
)


@dataclass(frozen=True)
class RobustSettings:
    """What a user chooses beside the grid; see :func:`mmsharp.apis.evaluate_robustness`."""

    seed: int = 0
    metric: str | None = None
    channel_order: ChannelOrder = 'rgb'
    image_order: ChannelOrder | Literal['auto'] = 'auto'
    position: Position = 'auto'
    backend: Backend = 'mmsharp'
    constants: Constants = 'auto'

    def __post_init__(self) -> None:
        settle_constants(self.backend, self.constants)


class RobustEvaluation:
    """A built model with its test data, ready to be evaluated on any cell.

    Args:
        cfg: A config of MMDetection or MMPretrain, or any MMEngine config with a test loop; it is not changed.
        checkpoint: The weights; they have to fit.
        work_dir: For the runner's log.
        settings: Seed, metric and the handling of channels and pipeline.

    Raises:
        MmsharpError: If the checkpoint is unsafe, damaged or does not fit, if the config has no test data or evaluator,
            or if the data is missing or its annotations are broken.
    """

    def __init__(
        self,
        cfg: Config,
        checkpoint: str | os.PathLike[str],
        work_dir: str | os.PathLike[str],
        settings: RobustSettings,
    ) -> None:
        self.checkpoint = Path(checkpoint)
        self.settings = settings
        self.current = CurrentCell()
        check_checkpoint(self.checkpoint)
        self.cfg = prepare_config(cfg, work_dir)
        self.cfg.load_from = str(self.checkpoint)
        check_data(self.cfg, ('test_dataloader',))
        with naming_broken_config(cfg.filename):
            self.runner = Runner.from_cfg(self.cfg)
        guard_checkpoint(self.runner, str(self.checkpoint))
        self.loop: Any = self._build_loop()
        self.dataset = self.loop.dataloader.dataset
        if len(self.dataset) == 0:
            raise MmsharpError(
                'the test set has no image; look at data_root, ann_file and data_prefix in test_dataloader'
            )
        self.placement: Placement = place_corruption(
            self.dataset,
            self.current,
            settings.seed,
            settings.channel_order,
            settings.image_order,
            settings.position,
            settings.backend,
            settings.constants,
        )
        self.runner.call_hook('before_run')
        self.runner.load_or_resume()

    @property
    def model(self) -> torch.nn.Module:
        """The model without the wrapper of distributed training."""
        return inner_model(self.runner.model)

    def identity(self) -> dict[str, Any]:
        """What the values depend on."""
        settings = self.settings
        return build_identity(
            self.cfg,
            self.checkpoint,
            settings.seed,
            settings.channel_order,
            self.placement,
            self.dataset,
            settings.backend,
            settle_constants(settings.backend, settings.constants),
        )

    def run(self, grid: Grid, store: ResultStore | None) -> None:
        """Evaluate the cells of ``grid`` that ``store`` lacks, and append each to it as soon as it is finished.

        Args:
            grid: The cells that are wanted.
            store: The results in the first process; ``None`` in the others, which follow.

        Raises:
            MmsharpError: If an image cannot be read or corrupted; the message names it and the cell. Also if the wanted
                metric is not computed. Finished cells are kept.
        """
        prepare(grid.corruptions, self.settings.backend)  # before the first pass forks its workers
        pending = _shared([cell for cell in grid.cells if store is None or cell not in store.finished])
        progress = CellProgress(len(grid.cells), len(grid.cells) - len(pending), enabled=store is not None)
        self.runner.register_hook(progress)
        known: set[str] = set()
        if store is not None:
            known.update(name for result in store.finished.values() for name in result.metrics)
        for cell in pending:
            progress.begin(cell, len(self.loop.dataloader))
            began = time.monotonic()
            values = self._evaluate(cell)
            fill_empty(values, self.loop.evaluator.metrics, sorted(known))
            known.update(values)
            if store is not None:
                store.append(CellResult(cell, values, len(self.dataset), time.monotonic() - began))
            metric = choose_metric(sorted(known), self.settings.metric)
            value = values.get(metric)
            progress.end(f'{metric} {"undefined" if value is None else format(value, ".4f")}')

    def close(self) -> None:
        """End the worker processes, which otherwise live as long as anything refers to the data loader."""
        loader = self.loop.dataloader
        iterator = getattr(loader, '_iterator', None)
        if iterator is not None:
            iterator._shutdown_workers()
            loader._iterator = None

    def _evaluate(self, cell: Cell) -> dict[str, float | None]:
        self.current.set(cell)
        try:
            with _quiet(self.runner.work_dir):
                return numbers(self.loop.run())
        except Exception as error:
            message = deliberate_refusal(error)
            if message is None:
                raise
            raise MmsharpError(
                f'cell {cell} stopped: {message}. Finished cells are kept; mend the cause and start again'
            ) from error

    def _build_loop(self) -> Any:
        try:
            with naming_broken_annotations():
                return self.runner.test_loop
        except FileNotFoundError as error:
            raise MmsharpError(f'the test data is incomplete: {error.filename or error} does not exist') from error


@contextlib.contextmanager
def _quiet(log_dir: str) -> Iterator[None]:
    """Send what evaluators print to a file; errors and warnings of the loggers still show."""
    with (
        open(Path(log_dir) / 'evaluators.log', 'a', encoding='utf-8') as log,
        contextlib.redirect_stdout(log),
        warnings.catch_warnings(),
        _without_empty_result_errors(),
    ):
        warnings.simplefilter('ignore')
        yield


@contextlib.contextmanager
def _without_empty_result_errors() -> Iterator[None]:
    """CocoMetric logs an error where nothing was detected, which severe corruptions make an ordinary result."""

    def keep(record: logging.LogRecord) -> bool:
        return 'results of the whole dataset is empty' not in record.getMessage()

    logger = MMLogger.get_current_instance()
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def _shared(cells: list[Cell]) -> list[Cell]:
    """The first process's list, in every process."""
    holder = [cells]
    broadcast_object_list(holder, src=0)
    return holder[0]
