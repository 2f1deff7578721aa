"""Evaluate a model over a corruption grid."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from mmengine.config import Config
from mmengine.dist import is_main_process
from torch import nn

from mmsharp.apis.configs import as_config
from mmsharp.engine.checkpoints.safe_checkpoint import is_address, local_checkpoint, plain_checkpoints
from mmsharp.engine.costs.model_cost import measure_cost, preprocessed_inputs
from mmsharp.engine.distributed.process_group import process_group
from mmsharp.engine.robustness.built_model import same_mode
from mmsharp.engine.robustness.certified_files import certification_of
from mmsharp.engine.robustness.evaluation import RobustEvaluation, RobustSettings
from mmsharp.engine.robustness.imagenet import is_imagenet
from mmsharp.engine.robustness.sample_pictures import take_samples
from mmsharp.engine.robustness.sources import Position
from mmsharp.errors import one_line
from mmsharp.files import write_json
from mmsharp.pruning import count_parameters
from mmsharp.robustness import (
    Backend,
    ChannelOrder,
    Constants,
    Grid,
    OnBadImage,
    OnTheFly,
    ResultStore,
    summarize,
)
from mmsharp.visualization import SamplePicture, write_report, write_tables


@plain_checkpoints()
def evaluate_robustness(
    config: str | os.PathLike[str] | Config,
    checkpoint: str | os.PathLike[str] | nn.Module,
    work_dir: str | os.PathLike[str],
    corruptions: str | Iterable[str] = 'benchmark',
    severities: Iterable[int] = (0, 1, 2, 3, 4, 5),
    seed: int = 0,
    metric: str | None = None,
    cfg_options: Mapping[str, Any] | None = None,
    channel_order: ChannelOrder = 'rgb',
    image_order: ChannelOrder | Literal['auto'] = 'auto',
    position: Position | Literal['auto'] = 'auto',
    launcher: str = 'none',
    samples: int = 2,
    backend: Backend = 'mmsharp',
    constants: Constants = 'auto',
    corrupted: str | os.PathLike[str] | None = None,
    on_bad_image: OnBadImage = 'stop',
    classwise: bool = False,
    tta: bool = False,
) -> dict[str, Any]:
    """Evaluate a model of MMDetection or MMPretrain over a corruption grid and write what was found.

    Finished cells in ``work_dir`` are not evaluated again; :class:`mmsharp.robustness.ResultStore` says what a folder
    accepts. The scores are defined in :mod:`mmsharp.robustness.scores`.

    Args:
        config: The config of the model, unchanged: its test data, test pipeline and test evaluator are used.
        checkpoint: Its weights, a file or an ``http(s)`` address, opened as plain data only; they have to fit. Or a
            built model, as from :func:`init_model`, which is tested as it is and left in its mode; the config gives
            data and evaluator then.
        work_dir: Where ``results.jsonl``, ``identity.json``, ``summary.json``, ``summary.md``, ``cells.csv`` and
            ``report.html`` go.
        corruptions: Names and groups; see :func:`mmsharp.robustness.select`.
        severities: 0 is the clean pass.
        seed: Of the corruptions' random numbers.
        metric: The metric that is P; by default the first of :data:`mmsharp.robustness.PREFERRED_METRICS`.
        cfg_options: Changes of the config, as the toolboxes' ``--cfg-options``.
        channel_order: ``'bgr'`` reproduces MMDetection's old numbers; see :class:`mmsharp.Corrupt`.
        image_order: How the pipeline holds images; ``'auto'`` is BGR behind a loading transform, RGB for arrays.
        position: Where the corruption goes; ``'auto'`` is after the loading for detectors and after resize and crop
            for classifiers.
        launcher: ``'pytorch'`` under ``torchrun``, with GPUs or without.
        samples: How many test images the report shows in every corruption.
        backend: Whose pixel functions, ``'mmsharp'`` or ``'imagecorruptions'``; see :func:`mmsharp.robustness.corrupt`.
        constants: What the severities mean, ``'imagenet'``, ``'cifar'`` or ``'auto'``, which is ``'cifar'`` for images
            of 32x32 pixels and ``'imagenet'`` for all others.
        corrupted: A folder of corrupted images, which are read instead of computed: ImageNet-C as it is released
            (``<corruption>/<severity>/<class>/*.JPEG``), the ``.npy`` files of CIFAR-10-C, or a tree that
            ``tools/dataset_converters/corrupt_dataset.py`` wrote. The clean pass reads the test set itself. With a
            tree, ``position='after_crop'`` leaves resize and crop out, since its pictures have been through them.
        on_bad_image: ``'stop'`` ends at the first image that cannot be read. ``'skip'`` reads all of them before the
            first cell, once per ``work_dir`` and cell, leaves those that cannot be read out of every cell, and lists
            them in the summary; not with evaluators that tell data sets apart.
        classwise: Whether to keep the values of every class, of ``CocoMetric``, ``VOCMetric`` or ``Accuracy``.
        tta: Whether to test with the augmentation of the config's ``tta_model`` and ``tta_pipeline`` or, without these,
            with the mirror image, as the toolboxes' own tools do.

    Returns:
        The content of ``summary.json``; in processes other than the first an empty dictionary. What could not be
        measured of the model, or shown of its predictions, is said in ``summary['model']['notes']``.

    Raises:
        MmsharpError: For an unknown corruption, missing data, a checkpoint that is unsafe or does not fit, a folder
            with other results, an unreadable image (named, with its cell; finished cells are kept), and the like.
    """
    grid = Grid.of(corruptions, severities)
    on_the_fly = OnTheFly(seed, channel_order, backend, constants)
    settings = RobustSettings(metric, image_order, position, corrupted, on_the_fly, on_bad_image, classwise, tta)
    cfg = as_config(config, cfg_options)
    folder = Path(work_dir)
    with process_group(launcher), same_mode(checkpoint):
        evaluation = RobustEvaluation(cfg, checkpoint, folder, settings)
        try:
            evaluation.prepare(grid)
            if not is_main_process():
                evaluation.run(grid, None)
                return {}
            with ResultStore(folder, evaluation.identity()) as store:
                evaluation.run(grid, store)
                finished = dict(store.finished)
                summary = summarize(store.finished, grid, store.identity, metric, is_imagenet(evaluation.dataset))
            summary['left_out'] = [bad.to_dict() for bad in evaluation.left_out]
            summary['config'] = cfg.filename and os.path.basename(cfg.filename)
            built = isinstance(checkpoint, nn.Module)
            summary['checkpoint'] = type(checkpoint).__name__ if built else Path(checkpoint).name  # type: ignore[arg-type]
            summary['source'] = _source(cfg, checkpoint, cfg_options)
            summary['model'] = _cost(evaluation)
            write_json(folder / 'summary.json', summary)
            write_tables(folder, summary, finished)
            pictures, reason = _pictures(evaluation, grid, samples)
            if reason is not None:
                notes = [*filter(None, [summary['model'].get('notes')]), reason]
                summary['model'] = {**summary['model'], 'notes': '; '.join(notes)}
                write_json(folder / 'summary.json', summary)
        finally:
            evaluation.close()
    write_report(folder / 'report.html', summary, pictures, certification_of(folder, summary['identity']))
    return summary


def _cost(evaluation: RobustEvaluation) -> dict[str, Any]:
    """As :func:`measure_cost`; where the model gets no single image that could be timed, its parameters and why."""
    model = evaluation.model
    try:
        collate = evaluation.loop.dataloader.collate_fn
        inputs, image_samples = preprocessed_inputs(model, evaluation.dataset, collate)
        return measure_cost(model, inputs, image_samples)
    except Exception as error:  # data sets are free in what an item is; the evaluation stands without this
        unknown = dict.fromkeys(('macs', 'latency_ms', 'input_shape'))
        return {'parameters': count_parameters(model), **unknown, 'notes': f'not measured: {one_line(error)}'}


def _pictures(evaluation: RobustEvaluation, grid: Grid, count: int) -> tuple[list[SamplePicture], str | None]:
    """As :func:`take_samples`, or no picture and why there is none."""
    try:
        return take_samples(evaluation, grid, count), None
    except Exception as error:  # predictions come in many forms; summary, tables and report stand without pictures
        return [], f'no pictures: {one_line(error)}'


def _source(
    cfg: Config, checkpoint: str | os.PathLike[str] | nn.Module, options: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Where a model came from, for :func:`compare_robustness`."""
    config = cfg.filename and os.path.abspath(cfg.filename)
    path: str | None = None
    if not isinstance(checkpoint, nn.Module):
        path = str(checkpoint) if is_address(checkpoint) else os.path.abspath(local_checkpoint(checkpoint))
    return {'config': config, 'checkpoint': path, 'cfg_options': repr(dict(options or {}))}
