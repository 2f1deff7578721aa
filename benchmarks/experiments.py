"""Experiments over methods, budgets and seeds that go on where they were killed, and what they found as tables.

One run trains a config with the options of a method, slims the end, and evaluates the slim model clean and under all
corruptions. A finished run is a line of a record; a run whose line is there is not repeated, one that was killed goes
on from its last checkpoint and its last finished cell.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from experiment_figures import draw_gain_over_cost, draw_over_parameters
from mmengine.config import Config

from mmsharp.apis import evaluate_robustness, init_model, slim
from mmsharp.engine.fixed_losses import fixed_losses
from mmsharp.engine.machine import machine, versions
from mmsharp.engine.robustness.tree_writer import TreeSettings, write_tree
from mmsharp.errors import MmsharpError
from mmsharp.files import replace_marked, write_text
from mmsharp.robustness import Grid, OnTheFly
from mmsharp.sharpness import measure_sharpness

ROOT = Path(__file__).parents[1]
SAM = 'mmsharp.SAMOptimWrapper'
PACKAGES = ('torch', 'onedl-mmengine', 'onedl-mmdetection', 'onedl-mmpretrain', 'mmsharp')
ADASAP = {'optim_wrapper.type': SAM, 'optim_wrapper.ascent': dict(type='AdaSAP')}
METHODS: dict[str, dict[str, Any]] = {
    'SGD': {},
    'SGD, twice the epochs': {},
    'SAM': {'optim_wrapper.type': SAM, 'optim_wrapper.ascent': dict(type='SAM')},
    'ASAM': {'optim_wrapper.type': SAM, 'optim_wrapper.ascent': dict(type='ASAM')},
    'AdaSAP': {**ADASAP, 'default_hooks.pruning.type': 'mmsharp.AdaSAPHook'},
    'MomentumSAM': {'optim_wrapper.type': SAM, 'optim_wrapper.ascent': dict(type='MomentumSAM')},
    'AdaSAP along the momentum': {
        'optim_wrapper.type': SAM,
        'optim_wrapper.ascent': dict(type='MomentumSAM', ascent=dict(type='AdaSAP', rho_min=0.01, rho_max=0.1)),
        'default_hooks.pruning.type': 'mmsharp.AdaSAPHook',
        'default_hooks.pruning.fine_tuning': dict(type='MomentumSAM', ascent=dict(type='ASAM', rho=1.0)),
    },
    'AdaSAP, every 5th step': {
        **ADASAP,
        'optim_wrapper.policy': dict(type='Periodic', interval=5),
        'default_hooks.pruning.type': 'mmsharp.AdaSAPHook',
    },
    'AdaSAP, LookSAM(5)': {
        **ADASAP,
        'optim_wrapper.policy': dict(type='LookSAM', interval=5),
        'default_hooks.pruning.type': 'mmsharp.AdaSAPHook',
    },
}
"""What a method changes in the config of the baseline, which prunes and trains with SGD."""
BALL = dict(rho=0.5, eta=0.01)
"""ASAM's, in which sharpness is measured: rescaling a layer does not change it, so dense and slim compare."""
SHARPNESS_BATCHES = 8
LONGER = 'SGD, twice the epochs'
MIXED = {'OptimWrapper': 'mmsharp.AmpOptimWrapper', SAM: 'mmsharp.AmpSAMOptimWrapper'}
"""The wrappers of mixed precision."""


@dataclass(frozen=True)
class Run:
    """One cell of an experiment."""

    method: str
    criterion: str
    budget: float
    seed: int

    @property
    def folder(self) -> str:
        """A name for its folder."""
        method = ''.join(letter if letter.isalnum() else '_' for letter in self.method)
        return f'{method}-{self.criterion}-{self.budget}-{self.seed}'


def grid(methods: Iterable[str], criteria: Iterable[str], budgets: Iterable[float], seeds: Iterable[int]) -> list[Run]:
    """All combinations, seed by seed, so that a record that was cut off compares what it has.

    Example:
        >>> [run.method for run in grid(['SGD', 'SAM'], ['Magnitude'], [0.4], [0])]
        ['SGD', 'SAM']
    """
    methods, criteria, budgets = list(methods), list(criteria), list(budgets)
    return [
        Run(method, criterion, budget, seed)
        for seed in seeds
        for budget in budgets
        for criterion in criteria
        for method in methods
    ]


@dataclass(frozen=True)
class Setting:
    """What all runs of an experiment have in common.

    Args:
        base: Config of the baseline, which prunes and trains with SGD.
        options: Changes of it, for everybody.
        metric: What is P.
        data: What is trained on, for the reader.
        methods: What each method changes, by its name.
        severities: Of the corruptions; 0 is the clean pass.
        mixed: Whether to train in mixed precision, which on CPUs is bfloat16.
        tree: Whether to corrupt the test images once for all runs, to PNG files, which hold the very pixels: saves
            small networks most of their evaluation, and takes too much room for large images.
    """

    base: Path
    options: Mapping[str, Any]
    metric: str
    data: str = ''
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: METHODS)
    severities: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    mixed: bool = False
    tree: bool = False


def configure(setting: Setting, run: Run) -> Config:
    """The config of a run: the baseline's, the options of everybody, those of the method, the budget and the seed."""
    config = Config.fromfile(setting.base)
    config.merge_from_dict(dict(setting.options))
    config.merge_from_dict(dict(setting.methods[run.method]))
    if setting.mixed:
        config.optim_wrapper.type = MIXED[config.optim_wrapper.get('type', 'OptimWrapper')]
    hook = config.default_hooks.pruning
    hook.budget = dict(params=run.budget)
    hook.pruner = dict(type='mmsharp.ChannelPruner', criterion=dict(type=run.criterion))
    config.randomness = dict(seed=run.seed)
    config.default_hooks.checkpoint = dict(config.default_hooks.get('checkpoint', {}), interval=1, max_keep_ckpts=-1)
    config.default_hooks.memory_format = dict(type='mmsharp.ChannelsLastHook')
    config.robustness.pop('hook', None)  # what it costs is no part of the training that is compared
    if run.method == LONGER:
        lengthen(config)
    return config


def lengthen(config: Config) -> None:
    """Twice the epochs, every phase and the decay of the learning rate with them, in place."""
    config.train_cfg.max_epochs *= 2
    for name in ('warmup', 'pruning'):
        if isinstance(config.default_hooks.pruning.get(name), int):
            config.default_hooks.pruning[name] *= 2
    for scheduler in config.param_scheduler:
        for key in ('T_max', 'begin', 'end'):
            if scheduler.get('by_epoch', True) and key in scheduler:
                scheduler[key] *= 2
        if 'milestones' in scheduler:
            scheduler['milestones'] = [2 * epoch for epoch in scheduler['milestones']]


def perform(config: Config, run: Run, work_dir: Path, setting: Setting) -> dict[str, Any]:
    """Train, slim and evaluate one run.

    Returns:
        The line of the record.

    Raises:
        MmsharpError: The training failed.
    """
    folder = work_dir / run.folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'config.py'
    write_text(path, config.pretty_text)
    last = folder / f'epoch_{config.train_cfg.max_epochs}.pth'
    clock = folder / 'seconds.json'
    if not last.is_file():
        command = [sys.executable, str(ROOT / 'tools' / 'train.py'), str(path), '--work-dir', str(folder), '--resume']
        before = time.monotonic(), _children_seconds()
        with open(folder / 'train.log', 'a', encoding='utf-8') as log:
            failed = subprocess.run(command, check=False, stdout=log, stderr=subprocess.STDOUT).returncode
        spent = json.loads(clock.read_text()) if clock.is_file() else (0.0, 0.0)
        now = time.monotonic(), _children_seconds()
        write_text(clock, json.dumps([so_far + end - start for so_far, end, start in zip(spent, now, before)]))
        if failed:
            raise MmsharpError(f'training of {run} stopped; see {folder / "train.log"}, then start again')
    seconds, cpu_seconds = json.loads(clock.read_text())
    report = slim(path, last, folder / 'slim', repeats=5)
    summary = evaluate_robustness(
        folder / 'slim' / 'config.py',
        folder / 'slim' / 'slim.pth',
        folder / 'robustness',
        severities=setting.severities,
        metric=setting.metric,
        samples=0,
        corrupted=corrupted_images(config, setting, work_dir) if setting.tree else None,
    )
    scores = summary['scores']
    return dict(
        asdict(run),
        clean=scores['clean'],
        mpc=scores['mpc'],
        rpc=scores['rpc'],
        families=scores['families'],
        images=summary['images'],
        parameters=report['slim']['parameters'] / report['dense']['parameters'],
        macs=report['slim']['macs'] / report['dense']['macs'],
        sharpness=sharpness_by_phase(config, folder),
        train_seconds=seconds,
        train_cpu_seconds=cpu_seconds,
        data=setting.data,
        epochs=config.train_cfg.max_epochs,
        wrapper=config.optim_wrapper.to_dict(),
        pruning=config.default_hooks.pruning.to_dict(),
        cells=summary['cells'],
        constants=summary['identity']['constants'],
        machine=machine(),
        versions=versions(PACKAGES),
    )


def sharpness_by_phase(config: Config, folder: Path) -> dict[str, float]:
    """Sharpness on training data when pruning starts, when it has ended, and at the end; of whole epochs alone."""
    hook, last = config.default_hooks.pruning, config.train_cfg.max_epochs
    epochs = {'at the end': last}
    if isinstance(hook.get('warmup'), int) and isinstance(hook.get('pruning'), int):
        epochs = {'before pruning': hook.warmup, 'after pruning': hook.warmup + hook.pruning, **epochs}
    found = {}
    for phase, epoch in epochs.items():
        model = init_model(config, folder / f'epoch_{epoch}.pth')
        losses = fixed_losses(config, model, batches=SHARPNESS_BATCHES)
        found[phase] = float(measure_sharpness(model, losses, **BALL).value)
    return found


def corrupted_images(config: Config, setting: Setting, work_dir: Path) -> Path:
    """The corrupted test images as files; what is there already is not written again."""
    folder = work_dir / 'corrupted'
    settings = TreeSettings(OnTheFly(constants=config.robustness.evaluation.constants))
    for _ in write_tree(config, folder, Grid.of('benchmark', setting.severities), settings):
        pass
    return folder


def _children_seconds() -> float:
    """Processor seconds of all processes that this one has started and seen end: others do not slow them down."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def read_record(path: Path) -> list[dict[str, Any]]:
    """The finished runs of a record.

    Raises:
        MmsharpError: A line is damaged.
    """
    lines = path.read_text(encoding='utf-8').splitlines() if path.is_file() else []
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise MmsharpError(f'{path} has a damaged line ({error}); remove it to repeat its run') from error


def run_all(setting: Setting, runs: Sequence[Run], work_dir: Path, record: Path) -> list[dict[str, Any]]:
    """Perform what the record lacks, one after the other, and append each to it."""
    found = read_record(record)
    done = {(line['method'], line['criterion'], line['budget'], line['seed']) for line in found}
    missing = [run for run in runs if (run.method, run.criterion, run.budget, run.seed) not in done]
    for number, run in enumerate(missing, start=1):
        print(f'[{number}/{len(missing)}] {run.method}, {run.criterion}, {run.budget}, seed {run.seed}', flush=True)
        line = perform(configure(setting, run), run, work_dir, setting)
        found = [*read_record(record), line]  # another process may have added to it
        write_text(record, ''.join(json.dumps(item) + '\n' for item in found))
        print(f'    clean {line["clean"]:.2f}, mPC {line["mpc"]:.2f}, {line["train_seconds"] / 60:.1f} min', flush=True)
    return found


def table(found: Sequence[Mapping[str, Any]], methods: Iterable[str] = tuple(METHODS)) -> str:
    """Mean and standard deviation over the seeds, per budget, criterion and method, as Markdown."""
    lines = [
        '| parameters kept | criterion | method | seeds | clean | mPC | rPC | sharpness | cost of training |',
        '|---|---|---|---:|---:|---:|---:|---|---:|',
    ]
    keys = sorted({(line['budget'], line['criterion']) for line in found}, reverse=True)
    for budget, criterion in keys:
        here = [line for line in found if (line['budget'], line['criterion']) == (budget, criterion)]
        plain = [training_cost(line) for line in here if line['method'] == 'SGD']
        for method in methods:
            lots = [line for line in here if line['method'] == method]
            if not lots:
                continue
            cost = mean(training_cost(line) for line in lots) / mean(plain) if plain else None
            lines.append(
                f'| {budget:.0%} | {criterion} | {method} | {len(lots)} | {spread(lots, "clean")} | '
                f'{spread(lots, "mpc")} | {100 * mean(line["rpc"] for line in lots):.1f} % | '
                f'{_mean_sharpness(lots)} | {"" if cost is None else f"{cost:.2f}x"} |'
            )
    return '\n'.join(lines)


def _mean_sharpness(lines: Sequence[Mapping[str, Any]]) -> str:
    """From phase to phase, where every line has it."""
    known = [line['sharpness'] for line in lines if line.get('sharpness')]
    if len(known) < len(lines):
        return ''
    return ', '.join(f'{mean(values[phase] for values in known):.3f}' for phase in known[0])


def report(
    found: Sequence[Mapping[str, Any]], name: str, document: Path, methods: Iterable[str] = tuple(METHODS)
) -> None:
    """Print the table, and write it with what it was measured on and its figures into a document.

    Args:
        found: Lines of a record.
        name: Of the record; of the section of the document and of the figures beside it.
        document: The Markdown file.
        methods: The order of the rows.

    Raises:
        MmsharpError: There is no line.
    """
    if not found:
        raise MmsharpError(f'the record {name} has no run yet; start without --render')
    rows = table(found, methods)
    print(rows)
    parts = [setup(found), rows]
    if len({line['method'] for line in found}) > 1:
        unit = '%' if max(line['mpc'] for line in found) > 1 else 'mAP'
        figures = document.parent / 'figures'
        draw_gain_over_cost(found, figures / f'{name}_cost.svg', 'points' if unit == '%' else unit, training_cost)
        parts.append(f'![gain over cost](figures/{name}_cost.svg)')
        if len({line['budget'] for line in found}) > 1:
            draw_over_parameters(found, figures / f'{name}_parameters.svg', unit)
            parts.append(f'![mPC over parameters](figures/{name}_parameters.svg)')
    replace_marked(document, name, '\n\n'.join(parts))


def setup(found: Sequence[Mapping[str, Any]]) -> str:
    """On what and how the lines of a record were measured, as a sentence.

    Example:
        >>> line = dict(method='SGD', data='10 images', epochs=2, seed=0, images=5, cells=[{}], wrapper={})
        >>> setup([dict(line, machine=dict(gpu=None, processor='Z80', cores=1), versions=dict(torch='2.11'))])
        'Z80, 1 cores, torch 2.11, float32; 10 images, 2 epochs, seeds 0; 5 test images, 1 cells.'
    """
    first = found[0]
    machines = {f'{line["machine"]["gpu"] or line["machine"]["processor"]}' for line in found}
    epochs = {line['method']: line['epochs'] for line in found}
    usual = min(epochs.values())
    longer = ', '.join(f'{method}: {count}' for method, count in epochs.items() if count != usual)
    precision = 'mixed precision' if 'Amp' in first['wrapper'].get('type', '') else 'float32'
    return (
        f'{", ".join(sorted(machines))}, {first["machine"]["cores"]} cores, torch {first["versions"]["torch"]}, '
        f'{precision}; {first["data"]}, {usual} epochs{longer and f" ({longer})"}, '
        f'seeds {", ".join(map(str, sorted({line["seed"] for line in found})))}; {first["images"]} test images, '
        f'{len(first["cells"])} cells.{_about_sharpness(first)}'
    )


def _about_sharpness(line: Mapping[str, Any]) -> str:
    if not line.get('sharpness'):
        return ''
    return (
        f" Sharpness: {', '.join(line['sharpness'])}; in ASAM's ball of radius {BALL['rho']}, on {SHARPNESS_BATCHES} "
        'batches of training data.'
    )


def training_cost(line: Mapping[str, Any]) -> float:
    """Seconds: of the clock with a GPU, of the processors without, where other work would count otherwise."""
    return line['train_seconds'] if line['machine'].get('gpu') else line['train_cpu_seconds']


def spread(lines: Sequence[Mapping[str, Any]], key: str) -> str:
    """Mean, with the standard deviation where there are several; per cent with two digits, fractions with three.

    Example:
        >>> spread([dict(mpc=70.0), dict(mpc=72.0)], 'mpc')
        '71.00 ± 1.41'
    """
    values = [float(line[key]) for line in lines]
    digits = 3 if max(values) <= 1 else 2
    text = f'{mean(values):.{digits}f}'
    return f'{text} ± {stdev(values):.{digits}f}' if len(values) > 1 else text


def add_arguments(
    parser: argparse.ArgumentParser,
    methods: Sequence[str],
    seeds: Sequence[int],
    work_dir: Path,
    choices: Iterable[str] = tuple(METHODS),
) -> None:
    """The options that all experiments share, with the defaults of one of them."""
    parser.add_argument('--methods', nargs='+', choices=list(choices), default=list(methods), metavar='METHOD')
    parser.add_argument('--criteria', nargs='+', default=['Magnitude'], help='registered criteria (default: Magnitude)')
    parser.add_argument('--budgets', nargs='+', type=float, default=[0.4], help='share of parameters (default: 0.4)')
    parser.add_argument('--seeds', nargs='+', type=int, default=list(seeds), help=f'(default: {seeds})')
    parser.add_argument('--work-dir', type=Path, default=work_dir, help='where to work')
    parser.add_argument('--mixed', action='store_true', help='train in mixed precision, bfloat16 on CPUs')
    parser.add_argument('--record', default='cpu', metavar='NAME', help='name of the record (default: cpu)')
    parser.add_argument('--render', action='store_true', help='only write the tables from the record')


def data_folder() -> Path:
    """What ``MMSHARP_DATA`` names.

    Raises:
        MmsharpError: It is not set, or no folder.
    """
    value = os.environ.get('MMSHARP_DATA')
    if not value or not os.path.isdir(value):
        raise MmsharpError(f'MMSHARP_DATA={value!r} names no folder; it holds cifar10/, bccd/ and weights/')
    return Path(value)
