"""Records: one line of JSON for each finished run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmsharp.errors import MmsharpError
from mmsharp.files import hold, release, write_text

from .performing import methods_of, perform
from .runs import Run, Setting, configure

KEY = tuple(field.name for field in fields(Run))


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


def read_runs(path: Path) -> list[dict[str, Any]]:
    """The finished runs of a record that has some.

    Raises:
        MmsharpError: It has none, or a line is damaged.
    """
    found = read_record(path)
    if not found:
        raise MmsharpError(f'the record {path.stem} has no run yet; start without --render')
    return found


def run_all(
    setting: Setting,
    runs: Sequence[Run],
    work_dir: Path,
    record: Path,
    configure: Callable[[Setting, Run], Config] = configure,
    perform: Callable[[Config, Run, Path, Setting], dict[str, Any]] = perform,
) -> list[dict[str, Any]]:
    """Perform what the record lacks, one after the other, and append each to it.

    Args:
        setting: What all runs have in common.
        runs: What the record shall hold.
        work_dir: Where to work.
        record: The file.
        configure: Gives the config of a run.
        perform: Gives the line of a run.

    Returns:
        All lines of the record.

    Raises:
        MmsharpError: Its lines are of another setting, or one is damaged, or is of a method that has changed since.
    """
    found = read_record(record)
    check_setting(found, setting, record)
    check_methods(found, runs, partial(configure, setting), record)
    missing = [run for run in runs if not _has(found, run)]
    for number, run in enumerate(missing, start=1):
        if _has(found := read_record(record), run):
            continue  # another process has finished it in between
        print(f'[{number}/{len(missing)}] {run.method}, {run.criterion}, {run.budget}, seed {run.seed}', flush=True)
        line = perform(configure(setting, run), run, work_dir, setting)
        with alone(record.parent / '.lock'):
            found = read_record(record)
            found = found if _has(found, run) else [*found, line]
            write_text(record, ''.join(json.dumps(item) + '\n' for item in found))
        corrupted = '' if line['mpc'] is None else f', mPC {line["mpc"]:.2f}'
        print(f'    clean {line["clean"]:.2f}{corrupted}, {line["train_seconds"] / 60:.1f} min', flush=True)
    return found


@contextmanager
def alone(path: Path, patience: float = 60.0) -> Iterator[None]:
    """Read and write records while no other process does, after waiting for it.

    Raises:
        MmsharpError: Another one did for so many seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w') as lock:
        begun = time.monotonic()
        while True:
            try:
                hold(lock, f'another process has written records beside {path} for {patience:g} seconds')
                break
            except MmsharpError:
                if time.monotonic() - begun > patience:
                    raise
                time.sleep(0.01)
        try:
            yield
        finally:
            release(lock)


def check_setting(found: Sequence[dict[str, Any]], setting: Setting, record: Path) -> None:
    """Refuse to add runs to those of another setting, which no table could tell apart.

    Raises:
        MmsharpError: Data, precision, or what the setting says is the same, is not.
    """
    wanted = {'data': setting.data, 'precision': _precision(setting.mixed), **setting.same}
    for line in found:
        there = {**line, 'precision': _precision('Amp' in line.get('wrapper', {}).get('type', ''))}
        for name, value in wanted.items():
            if name in there and there[name] != value:
                raise MmsharpError(
                    f'{record} has runs with {name} {there[name]}, and these are with {value}; give them a record of '
                    'their own: --record NAME'
                )


def check_methods(
    found: Sequence[dict[str, Any]], runs: Sequence[Run], configure: Callable[[Run], Config], record: Path
) -> None:
    """Refuse to count runs as done whose method trains or prunes otherwise now, as far as its config says it.

    Raises:
        MmsharpError: A line's optimizer wrapper, pruning or search is not what its run is configured with.
    """
    by_key = {tuple(line[name] for name in KEY): line for line in found}
    for run in runs:
        line = by_key.get(tuple(getattr(run, name) for name in KEY))
        now = {} if line is None else json.loads(json.dumps(methods_of(configure(run))))
        for name, value in now.items():
            if line is not None and name in line and line[name] != value:
                raise MmsharpError(
                    f'{record} has {run.method}, seed {run.seed}, with {name} {line[name]}, and it is {value} now; '
                    'remove the line and the folder of the run to repeat it, or give a record of its own: --record NAME'
                )


def _has(found: Sequence[dict[str, Any]], run: Run) -> bool:
    return any(all(line[name] == getattr(run, name) for name in KEY) for line in found)


def _precision(mixed: bool) -> str:
    return 'mixed' if mixed else 'float32'
