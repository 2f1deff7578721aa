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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mmengine.config import Config
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.logging import MMLogger
from torch import nn

from mmsharp.datasets.transforms import CurrentCell
from mmsharp.engine.checkpoints.checkpoint_guard import guard_checkpoint
from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint, local_checkpoint
from mmsharp.engine.configs.building_runner import build_runner
from mmsharp.engine.configs.config import check_data
from mmsharp.engine.configs.config_errors import naming_broken_config
from mmsharp.engine.configs.tta import check_augmented
from mmsharp.engine.data_errors.annotation_errors import naming_broken_annotations
from mmsharp.engine.distributed.first_process_decides import first_process_decides
from mmsharp.engine.model_access.inner_model import inner_model
from mmsharp.engine.robustness.bad_images import BadImage, Scan, ScanFile, all_bad_images, find_bad_images, leave_out
from mmsharp.engine.robustness.built_model import model_sha256, use_model, without_hooks
from mmsharp.engine.robustness.cell_metrics import check_evaluator, computes_apart, fill_empty, numbers
from mmsharp.engine.robustness.cell_progress import CellProgress
from mmsharp.engine.robustness.classwise import ask_for_classes, class_values
from mmsharp.engine.robustness.data_digest import data_sha256
from mmsharp.engine.robustness.evaluation_config import prepare_config
from mmsharp.engine.robustness.ground_truth import settle_ground_truth
from mmsharp.engine.robustness.identity import config_sha256, file_sha256, versions
from mmsharp.engine.robustness.metric_names import check_metric
from mmsharp.engine.robustness.placement import place_corruption
from mmsharp.engine.robustness.sources import Placement, Position, choose_source
from mmsharp.errors import MmsharpError, deliberate_refusal
from mmsharp.robustness import (
    ON_BAD_IMAGE,
    Cell,
    CellResult,
    ChannelOrder,
    Grid,
    OnBadImage,
    OnTheFly,
    ResultStore,
    choose_metric,
)

SCAN = 'unreadable.json'
"""In the results folder: which images could not be read, with ``on_bad_image='skip'``."""


@dataclass(frozen=True)
class RobustSettings:
    """What a user chooses beside the grid; see :func:`mmsharp.apis.evaluate_robustness`."""

    metric: str | None = None
    image_order: ChannelOrder | Literal['auto'] = 'auto'
    position: Position | Literal['auto'] = 'auto'
    corrupted: str | os.PathLike[str] | None = None
    on_the_fly: OnTheFly = field(default_factory=OnTheFly)
    on_bad_image: OnBadImage = 'stop'
    classwise: bool = False
    tta: bool = False

    def __post_init__(self) -> None:
        if self.on_bad_image not in ON_BAD_IMAGE:
            raise MmsharpError(f'on_bad_image {self.on_bad_image!r} is none of {", ".join(ON_BAD_IMAGE)}')


class RobustEvaluation:
    """A built model with its test data, ready to be evaluated on any cell.

    Args:
        cfg: A config of MMDetection or MMPretrain, or any MMEngine config with a test loop; it is not changed.
        checkpoint: The weights, a file or an address, which have to fit; or a built model, which is tested as it is.
        work_dir: For the runner's log, and what is known of images that cannot be read.
        settings: Seed, metric and the handling of channels and pipeline.

    Raises:
        MmsharpError: If the checkpoint is unsafe, damaged or does not fit, if the config has no test data or evaluator,
            or if the data is missing or its annotations are broken.
    """

    def __init__(
        self,
        cfg: Config,
        checkpoint: str | os.PathLike[str] | nn.Module,
        work_dir: str | os.PathLike[str],
        settings: RobustSettings,
    ) -> None:
        self.settings = settings
        self.current = CurrentCell()
        self.source = choose_source(settings.corrupted, settings.on_the_fly)
        if not isinstance(checkpoint, nn.Module):
            check_checkpoint(checkpoint)
        self.cfg = prepare_config(cfg, work_dir, settings.tta)
        self.config_sha256 = config_sha256(self.cfg)
        if settings.classwise:
            ask_for_classes(self.cfg)
        self.folder = Path(work_dir)
        self.left_out: list[BadImage] = []
        self._scan: ScanFile | None = None
        if isinstance(checkpoint, nn.Module):
            without_hooks(self.cfg)
            self.weights_sha256 = model_sha256(checkpoint)
        else:
            local = local_checkpoint(checkpoint)
            self.cfg.load_from = os.fspath(local)
            self.weights_sha256 = file_sha256(local)
        check_data(self.cfg, ('test_dataloader',))
        with naming_broken_config(cfg.filename):
            self.runner = build_runner(self.cfg)
        if isinstance(checkpoint, nn.Module):
            use_model(self.runner, checkpoint)
        else:
            guard_checkpoint(self.runner, os.fspath(checkpoint))
        self.loop: Any = self._build_loop()
        check_evaluator(self.loop.evaluator, settings.metric)
        check_augmented(self.runner.model, self.loop.evaluator)
        if settings.on_bad_image == 'skip' and computes_apart(self.loop.evaluator):
            raise MmsharpError(
                f"on_bad_image 'skip' is not for {type(self.loop.evaluator).__name__}, which remembers where each of "
                "its data sets begins; evaluate the sets apart, or mend the images and use 'stop'"
            )
        self.dataset = self.loop.dataloader.dataset
        if len(self.dataset) == 0:
            raise MmsharpError(
                'the test set has no image; look at data_root, ann_file and data_prefix in test_dataloader'
            )
        self.settled = False
        if not computes_apart(self.loop.evaluator):
            for note in settle_ground_truth(self.dataset, self.loop.evaluator.metrics):
                self.settled = True
                self.runner.logger.warning(note)
        self.placement: Placement = place_corruption(
            self.dataset, self.current, self.source, settings.image_order, settings.position
        )
        self.runner.call_hook('before_run')
        if not isinstance(checkpoint, nn.Module):
            self.runner.load_or_resume()

    @property
    def model(self) -> nn.Module:
        """The model without the wrapper of distributed training."""
        return inner_model(self.runner.model)

    def identity(self) -> dict[str, Any]:
        """What the values depend on."""
        known = {'classwise': self.settings.classwise, 'left_out': [bad.image for bad in self.left_out]}
        data: dict[str, Any] = {'images': len(self.dataset), 'data_sha256': data_sha256(self.dataset)}
        if self.settled:  # other values than those of the whole file, which earlier versions gave
            data['ground_truth'] = 'of the test set'
        return {
            'checkpoint_sha256': self.weights_sha256,
            'config_sha256': self.config_sha256,
            **self.source.identity(),
            'image_order': self.placement.image_order,
            'position': self.placement.position,
            **data,
            **known,
            'versions': versions(self.cfg.get('default_scope')),
        }

    def prepare(self, grid: Grid) -> None:
        """Be ready for the cells of a grid; with ``on_bad_image='skip'``, find and leave out what is bad.

        Bad are images that cannot be read or, where the grid corrupts, are too small for it.

        What was found is kept in the results folder, so that a later start reads the cells alone that are new. An image
        that is left out stays so for every later grid in the folder.

        Raises:
            MmsharpError: The source of the corrupted images lacks cells or images, images are too small to be
                corrupted and not to be left out, or no image is left.
        """
        if self.settings.on_bad_image == 'skip':
            self.source.check(grid)  # before every picture of every cell is read
            self._leave_out_bad_images(grid)
        self.source.prepare(grid, self.dataset, self.current)  # before the first pass forks its workers

    def run(self, grid: Grid, store: ResultStore | None) -> None:
        """Evaluate the cells of ``grid`` that ``store`` lacks, and append each to it as soon as it is finished.

        Args:
            grid: The cells that are wanted.
            store: The results in the first process; ``None`` in the others, which follow.

        Raises:
            MmsharpError: If an image cannot be read or corrupted; the message names it and the cell. Also if the wanted
                metric is not computed, before the first cell where a few images show that. Finished cells are kept.
        """
        pending = first_process_decides([cell for cell in grid.cells if store is None or cell not in store.finished])
        progress = CellProgress(len(grid.cells), len(grid.cells) - len(pending), enabled=store is not None)
        self.runner.register_hook(progress)
        known: set[str] = set()
        if store is not None:
            known.update(name for result in store.finished.values() for name in result.metrics)
        if pending and self.settings.metric not in known:
            with _quiet(self.runner.work_dir):
                check_metric(self.loop, 'test_step', self.settings.metric)
        for cell in pending:
            progress.begin(cell, len(self.loop.dataloader))
            began = time.monotonic()
            values = self.evaluate(cell)
            fill_empty(values, self.loop.evaluator, sorted(known))
            constants = () if cell.is_clean else _union(all_gather_object(self.source.constants))
            known.update(values)
            if store is not None:
                seconds = time.monotonic() - began
                store.append(CellResult(cell, values, len(self.dataset), seconds, constants=constants))
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

    def evaluate(self, cell: Cell) -> dict[str, float | None]:
        """One pass over the images of a cell, and its metrics.

        Raises:
            MmsharpError: An image cannot be read or corrupted; the message names it and the cell.
        """
        self.current.set(cell)
        try:
            with _quiet(self.runner.work_dir):
                metrics = self.loop.run()
        except Exception as error:
            message = deliberate_refusal(error)
            if message is None:
                raise
            if self._scan is not None:
                self._scan.forget()
            raise MmsharpError(
                f'cell {cell} stopped: {message}. Finished cells are kept; mend the cause and start again'
            ) from error
        classes = (self.dataset.metainfo or {}).get('classes') if self.settings.classwise else None
        return {**numbers(metrics), **class_values(metrics, classes or ())}

    def _leave_out_bad_images(self, grid: Grid) -> None:
        """Each process reads its part of the images, in the cells that were not read before; all leave out."""
        self._scan = ScanFile(self.folder / SCAN, self.identity())
        known: Scan = first_process_decides(self._scan.load(self.dataset, self.current) if is_main_process() else {})
        wanted = {str(reading): reading for reading in self.source.readings(grid)}
        missing = [reading for name, reading in wanted.items() if name not in known]
        if missing:
            workers = int(self.cfg.test_dataloader.get('num_workers', 0))
            part = get_rank(), get_world_size()
            parts = all_gather_object(
                find_bad_images(self.dataset, self.current, missing, workers, is_main_process(), part)
            )
            known.update({name: [bad for found in parts for bad in found[name]] for name in map(str, missing)})
            if is_main_process():
                self._scan.save(known)
        rest = [name for name in known if name not in wanted]
        self.left_out = all_bad_images({name: known[name] for name in (*wanted, *rest)})
        if self.left_out:
            sampler = self.cfg.test_dataloader.sampler
            metrics = self.loop.evaluator.metrics
            leave_out(self.dataset, self.loop.dataloader, sampler, metrics, self.left_out)

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


def _union(parts: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """All names of all processes."""
    return tuple(sorted({name for part in parts for name in part}))
