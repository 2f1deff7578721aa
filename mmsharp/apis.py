"""What a notebook calls; the command-line tools call the same."""

import ast
import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from torch import nn

from mmsharp.engine.checkpoint_fit import check_fit, weights_of
from mmsharp.engine.config import load_config, merge_options
from mmsharp.engine.deployment import build_model, deploy
from mmsharp.engine.export.onnx_export import export_onnx
from mmsharp.engine.export.raw_outputs import preprocessing
from mmsharp.engine.model_cost import image_sample, measure_cost, measure_costs, preprocessed_inputs
from mmsharp.engine.process_group import process_group
from mmsharp.engine.pruning_state import PruningState
from mmsharp.engine.robustness.built_model import same_mode
from mmsharp.engine.robustness.certification import IMAGES, Certification
from mmsharp.engine.robustness.certified_files import certification_of
from mmsharp.engine.robustness.evaluation import RobustEvaluation, RobustSettings
from mmsharp.engine.robustness.identity import file_sha256
from mmsharp.engine.robustness.imagenet import is_imagenet
from mmsharp.engine.robustness.sample_pictures import take_samples
from mmsharp.engine.robustness.sources import Position
from mmsharp.engine.safe_checkpoint import check_checkpoint, plain_checkpoints
from mmsharp.errors import MmsharpError, one_line
from mmsharp.files import write_json
from mmsharp.models import without_masks
from mmsharp.pruning import apply_recipe, count_parameters
from mmsharp.robustness import (
    Backend,
    CertificationSettings,
    ChannelOrder,
    Constants,
    Grid,
    OnBadImage,
    OnTheFly,
    ResultStore,
    compare_runs,
    parse_transforms,
    summarize,
)
from mmsharp.visualization import (
    SamplePicture,
    write_certification_report,
    write_certification_tables,
    write_report,
    write_tables,
)


@plain_checkpoints()
def init_model(
    config: str | os.PathLike[str] | Config,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device = 'cpu',
    cfg_options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a model in evaluation mode, with the weights of a dense, masked or slim checkpoint.

    What comes back has ``cfg`` and, where the checkpoint knows it, ``dataset_meta``, so that the toolboxes' own
    ``inference_detector(model, image)`` and ``inference_model`` work with it.

    Args:
        config: The ordinary config, or the one that :func:`slim` writes; not changed.
        checkpoint: Its weights, opened as plain data only; they have to fit. ``None`` leaves the initial ones.
        device: Where the model goes.
        cfg_options: Changes of the config, as the toolboxes' ``--cfg-options``.

    Raises:
        MmsharpError: The config or the checkpoint cannot be read, or they do not fit together.
    """
    cfg = _as_config(config, cfg_options)
    model = build_model(cfg)
    if checkpoint is not None:
        content = check_checkpoint(checkpoint)
        state = PruningState.from_checkpoint(content)
        weights = weights_of(content, os.fspath(checkpoint))
        if state.kind == 'slim' and state.recipe is not None and not state.fits(model, weights):
            without_masks(model)
            apply_recipe(model, state.recipe)
        check_fit(model, weights, os.fspath(checkpoint))
        model.load_state_dict(weights, strict=False)
        meta = (content.get('meta') or {}).get('dataset_meta') or {}
        model.dataset_meta = {key.lower(): value for key, value in meta.items()}  # type: ignore[assignment]
    model.cfg = cfg
    model.to(device)
    return model


def slim(
    config: str | os.PathLike[str] | Config,
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    cfg_options: Mapping[str, Any] | None = None,
    repeats: int = 30,
) -> dict[str, Any]:
    """Turn a masked or slim training checkpoint into a folder with a deployable model.

    Args:
        config: The config that the checkpoint was trained with, ordinary or slim; not changed.
        checkpoint: Written while ``PruningHook`` or ``AdaSAPHook`` was at work, or of a slim model.
        out: The folder; see :func:`mmsharp.engine.deployment.deploy` for what is written and replaced.
        cfg_options: Changes of the config, as the toolboxes' ``--cfg-options``.
        repeats: Forward passes for the latency.

    Returns:
        ``{'dense': {...}, 'slim': {...}, 'input_shape': [...], 'notes': [...]}`` with ``parameters``, ``macs`` and
        ``latency_ms`` (measured in turns), and what the user should know.

    Raises:
        MmsharpError: The checkpoint is unsafe, broken, not pruned, or does not fit the config.
    """
    return deploy(_as_config(config, cfg_options), os.fspath(checkpoint), out, repeats)


@plain_checkpoints()
def export(
    config: str | os.PathLike[str] | Config,
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    opset: int | None = None,
    cfg_options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a dense, masked or slim model as ONNX, checked in onnxruntime.

    Args:
        config: The config of the model, ordinary or slim; not changed.
        checkpoint: Its weights.
        out: The ``.onnx`` file, which appears as a whole or not at all.
        size: Height and width of the images; by default those that the checkpoint was pruned with.
        opset: Version of the ONNX operators; by default 18, and 19 for networks with deformable convolutions.
        cfg_options: Changes of the config, as the toolboxes' ``--cfg-options``.

    Returns:
        As :func:`mmsharp.engine.export.onnx_export.export_onnx`.

    Raises:
        MmsharpError: No size is known, or as :func:`init_model` and
            :func:`mmsharp.engine.export.onnx_export.export_onnx`.
    """
    cfg = _as_config(config, cfg_options)
    noted = PruningState.from_checkpoint(check_checkpoint(checkpoint)).input_shape
    if size is not None:
        noted = (3 if noted is None else noted[0], *size)
    if noted is None:
        raise MmsharpError(
            f'checkpoint {os.fspath(checkpoint)!r} does not say for which image size; give --shape HEIGHT WIDTH'
        )
    model = init_model(cfg, checkpoint)
    return export_onnx(model, out, noted, opset, preprocessing(model))


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
        checkpoint: Its weights, opened as plain data only; they have to fit. Or a built model, as from
            :func:`init_model`, which is tested as it is and left in its mode; the config gives data and evaluator then.
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
    cfg = _as_config(config, cfg_options)
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


@plain_checkpoints()
def certify_robustness(
    config: str | os.PathLike[str] | Config,
    checkpoint: str | os.PathLike[str] | nn.Module,
    work_dir: str | os.PathLike[str],
    transforms: str | Iterable[str],
    images: int | None = IMAGES,
    settings: Mapping[str, Any] | CertificationSettings | None = None,
    cfg_options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Certify a classifier of MMPretrain on its test data under random transforms, and write what was found.

    Definitions are in :func:`mmsharp.robustness.certify`. Transforms that are finished in ``work_dir`` are not
    certified again; another checkpoint, config, data set or setting than theirs is refused.

    Args:
        config: The config of the model, unchanged: its test data and test pipeline are used.
        checkpoint: Its weights, opened as plain data only; or a built model, which is left in its mode.
        work_dir: Where ``certification/``, ``certification.json``, ``.md`` and ``.csv`` go, and ``report.html``, as a
            section of the report of a corruption grid in the same folder.
        transforms: Such as ``['rotation:10', 'rotation:10+brightness:0.4']``.
        images: How many test images to take, chosen at random by the seed; ``None`` for all.
        settings: Draws, failure rates, seed and so on; :class:`mmsharp.robustness.CertificationSettings` or a
            dictionary of its arguments.
        cfg_options: Changes of the config, as the toolboxes' ``--cfg-options``.

    Returns:
        The content of ``certification.json``.

    Raises:
        MmsharpError: The model is no classifier, a transform or a setting is not accepted, data is missing, the
            checkpoint is unsafe or does not fit, or the folder holds another certification.
    """
    chosen = parse_transforms(transforms)
    settings = CertificationSettings.of(settings)
    cfg = _as_config(config, cfg_options)
    folder = Path(work_dir)
    with same_mode(checkpoint):
        evaluation = RobustEvaluation(cfg, checkpoint, folder, RobustSettings())
        certification = Certification(evaluation, folder, settings, images)
        try:
            summary = certification.run(chosen)
        finally:
            certification.close()
    named = isinstance(checkpoint, nn.Module)
    summary['config'] = cfg.filename and os.path.basename(cfg.filename)
    summary['checkpoint'] = type(checkpoint).__name__ if named else Path(checkpoint).name  # type: ignore[arg-type]
    write_json(folder / 'certification.json', summary)
    write_certification_tables(folder, summary)
    write_certification_report(folder / 'report.html', summary)
    return summary


@plain_checkpoints()
def compare_robustness(
    folders: Sequence[str | os.PathLike[str]], names: Sequence[str] | None = None, metric: str | None = None
) -> dict[str, Any]:
    """Put finished evaluations side by side: the same cells, the same metric, latencies measured in turns.

    The models are built anew from the configs and checkpoints that the runs were given and timed by turns on this
    machine; where one of them is gone or another by now, the latencies of the runs stand, and a note says so.

    Args:
        folders: Results folders of :func:`evaluate_robustness`; the first is the baseline.
        names: What to call the runs; by default the folders' names.
        metric: The metric to compare; by default the one that the first run was scored by.

    Returns:
        What :func:`mmsharp.robustness.compare_runs` returns.

    Raises:
        MmsharpError: As :func:`mmsharp.robustness.compare_runs`.
    """
    comparison = compare_runs([Path(folder) for folder in folders], names, metric)
    runs = comparison['runs']
    try:
        costs = measure_costs([_timed_model(run) for run in runs], limit=60.0)
    except Exception as error:  # without it the comparison is as good as its runs
        comparison['notes'].append(
            'latencies are those of the runs, measured at different times, and their ratios hold what else the machine '
            f'did then ({one_line(error)})'
        )
        return comparison
    for run, cost in zip(runs, costs, strict=True):
        run['model'] = {**run['model'], 'latency_ms': cost['latency_ms']}
    return comparison


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
    path = None if isinstance(checkpoint, nn.Module) else os.path.abspath(checkpoint)
    return {'config': config, 'checkpoint': path, 'cfg_options': repr(dict(options or {}))}


def _timed_model(run: Mapping[str, Any]) -> tuple[nn.Module, torch.Tensor, list[Any]]:
    """The model of a finished run with an image of the size that it was measured on."""
    source, shape = run['source'], run['model'].get('input_shape')
    if 'checkpoint' in source and source['checkpoint'] is None:
        raise MmsharpError(f'run {run["name"]!r} was of a model in memory')
    if not source.get('config') or not shape:
        raise MmsharpError(f'run {run["name"]!r} does not say which config it used, or for which input')
    if file_sha256(source['checkpoint']) != run['identity'].get('checkpoint_sha256'):
        raise MmsharpError(f'{source["checkpoint"]!r} is another checkpoint by now')
    device = torch.device(run['model'].get('device') or 'cpu')
    model = init_model(source['config'], source['checkpoint'], device, ast.literal_eval(source['cfg_options']))
    image = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(0)).to(device)
    return model, image, [image_sample(tuple(shape[1:]))]


def _as_config(config: str | os.PathLike[str] | Config, options: Mapping[str, Any] | None) -> Config:
    """The config of a path, or a copy of the given one, with the changes."""
    if not isinstance(config, Config):
        return load_config(config, options)
    config = copy.deepcopy(config)
    if options:
        merge_options(config, options)
    return config
