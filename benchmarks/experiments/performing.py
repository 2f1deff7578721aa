"""Train, slim and evaluate one cell; what was finished before an interruption is not done again."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from mmengine.config import Config

from mmsharp.apis import evaluate_robustness, init_model, slim
from mmsharp.engine.costs.machine import machine, versions
from mmsharp.engine.model_access.fixed_losses import fixed_losses
from mmsharp.engine.robustness.tree_writer import TreeSettings, write_tree
from mmsharp.errors import MmsharpError
from mmsharp.files import hold, write_text
from mmsharp.robustness import Grid, OnTheFly
from mmsharp.sharpness import measure_sharpness

from .runs import Run, Setting
from .training import read_clock, run_timed

ROOT = Path(__file__).parents[2]
PACKAGES = ('torch', 'onedl-mmengine', 'onedl-mmdetection', 'onedl-mmpretrain', 'mmsharp')
CODE = ('mmsharp', 'configs', 'tools', 'benchmarks')
BALL = dict(rho=0.5, eta=0.01)
"""ASAM's, in which sharpness is measured: rescaling a layer does not change it, so dense and slim compare."""
SHARPNESS_BATCHES = 8


def perform(config: Config, run: Run, work_dir: Path, setting: Setting) -> dict[str, Any]:
    """Train, slim and evaluate one run.

    Returns:
        The line of the record.

    Raises:
        MmsharpError: The training failed.
    """
    line = perform_without_sharpness(config, run, work_dir, setting)
    return dict(line, sharpness=sharpness_by_phase(config, work_dir / run.folder))


def perform_without_sharpness(config: Config, run: Run, work_dir: Path, setting: Setting) -> dict[str, Any]:
    """As :func:`perform`, for trainings without the phases of pruning in which sharpness is measured."""
    folder = work_dir / run.folder
    seconds, cpu_seconds = train(config, folder)
    report = slim(folder / 'config.py', last_checkpoint(config, folder), folder / 'slim', repeats=5)
    found = scores(slim_network(folder), config, folder, setting, work_dir)
    return dict(
        {**asdict(run), **circumstances(config, setting), **found},
        commit=commit_of(folder),
        parameters=report['slim']['parameters'] / report['dense']['parameters'],
        macs=report['slim']['macs'] / report['dense']['macs'],
        train_seconds=seconds,
        train_cpu_seconds=cpu_seconds,
    )


def train(config: Config, folder: Path) -> tuple[float, float]:
    """Train to the end, or go on with what was interrupted.

    Returns:
        Seconds of the clock and of the processors, all interrupted starts with them.

    Raises:
        MmsharpError: It failed, another process trains there, or the folder has a training by another config, or by
            an unknown one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / '.lock', 'w') as lock:
        hold(lock, f'a training is under way in {folder}; wait for it, or give another --work-dir')
        return _train_alone(config, folder, lock)  # closed but not released: what goes on training still has it


def _train_alone(config: Config, folder: Path, lock: IO[Any]) -> tuple[float, float]:
    path, asked, clock = folder / 'config.py', folder / 'asked.py', folder / 'seconds.json'
    trained = (folder / 'last_checkpoint').exists() or last_checkpoint(config, folder).exists()
    if trained if not asked.is_file() else asked.read_text(encoding='utf-8') != config.pretty_text:
        raise MmsharpError(
            f'{folder} has a training by another config (asked.py there), or by one that nobody knows (without '
            'asked.py); remove the folder to train anew, or give another --work-dir'
        )
    write_text(asked, config.pretty_text)  # the training writes the config that it ran over config.py
    write_text(path, config.pretty_text)
    if not last_checkpoint(config, folder).is_file():
        _note_commit(folder / 'commit.txt', trained)
        command = [sys.executable, str(ROOT / 'tools' / 'train.py'), str(path), '--work-dir', str(folder), '--resume']
        with open(folder / 'train.log', 'a', encoding='utf-8') as log:
            failed = run_timed(command, log, clock, lock)
        if failed:
            raise MmsharpError(f'training in {folder} stopped; see {folder / "train.log"}, then start again')
    spent = read_clock(clock)
    if spent is None:
        raise MmsharpError(f'{folder} has a training of which no time is known ({clock.name}); remove it to train anew')
    return spent


def _note_commit(path: Path, trained: bool) -> None:
    """Of the code that trains now, behind those of the code that has trained before, if they are known."""
    known = path.read_text(encoding='utf-8').split('\n') if path.is_file() else [''] * trained
    now = commit() or ''
    write_text(path, '\n'.join(known if now in known else [*known, now]))


def last_checkpoint(config: Config, folder: Path) -> Path:
    """What the training of a config ends in."""
    return folder / f'epoch_{config.train_cfg.max_epochs}.pth'


def slim_network(folder: Path) -> tuple[Path, Path]:
    """Config and checkpoint of the slim model of a run."""
    return folder / 'slim' / 'config.py', folder / 'slim' / 'slim.pth'


def scores(
    network: tuple[Path, Path], config: Config, folder: Path, setting: Setting, work_dir: Path
) -> dict[str, Any]:
    """A network (config and checkpoint), clean and under the corruptions of the setting; its cells go to a folder."""
    summary = evaluate_robustness(
        *network,
        folder / 'robustness',
        severities=setting.severities,
        metric=setting.metric,
        samples=0,
        corrupted=corrupted_images(config, setting, work_dir) if setting.tree else None,
    )
    found = summary['scores']
    return dict(
        clean=found['clean'],
        mpc=found['mpc'],
        rpc=found['rpc'],
        families=found['families'],
        images=summary['images'],
        cells=summary['cells'],
        constants=summary['identity']['constants'],
    )


def circumstances(config: Config, setting: Setting) -> dict[str, Any]:
    """On what and with what settings a run was made."""
    found = dict(
        data=setting.data,
        epochs=config.train_cfg.max_epochs,
        **methods_of(config),
        machine=machine(),
        versions=versions(PACKAGES),
    )
    return {**found, **setting.same}


def commit_of(folder: Path) -> str | None:
    """Of the code that trained in a folder, several where it was gone on with; ``None`` where one is not known."""
    path = folder / 'commit.txt'
    known = path.read_text(encoding='utf-8').split('\n') if path.is_file() else ['']
    return ', '.join(known) if all(known) else None


def commit() -> str | None:
    """Of the code which is here, ``-dirty`` behind it where code differs; ``None`` outside a checkout."""
    try:
        of_code = ['--', *CODE, ':!benchmarks/results']
        differs, name = (
            subprocess.run(['git', *command], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
            for command in (['status', '--porcelain', *of_code], ['rev-parse', '--short=12', 'HEAD'])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f'{name}-dirty' if differs else name


def methods_of(config: Config) -> dict[str, Any]:
    """By what optimizer wrapper, pruning hook and search of masks a config trains, as it is written there.

    What it leaves to defaults is not in it: a line tells its commit for that.
    """
    parts = dict(
        wrapper=config.optim_wrapper, pruning=config.default_hooks.get('pruning'), search=config.model.get('search')
    )
    return {name: part if part is None else part.to_dict() for name, part in parts.items()}


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
