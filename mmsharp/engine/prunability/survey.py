"""Go through many configs, one process after the other, and keep a row of each."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmsharp.engine.prunability.config_trial import ROW, Trial, measure, rebuild
from mmsharp.engine.prunability.families import FAMILIES, SIZES, TOOLBOXES, in_scope, packaged_config
from mmsharp.engine.prunability.isolation import run_isolated
from mmsharp.engine.prunability.record import ProbeRecord
from mmsharp.errors import MmsharpError

PASSED, FAILED = 'pass', 'fail'


@dataclass(frozen=True)
class Settings:
    """What decides the numbers of a survey.

    Args:
        ratio: Share of the channels of every group that is masked, in [0, 1).
        seed: Of weights, images and scores.
        timeout: Seconds for one config.

    Raises:
        MmsharpError: A value is out of its range.
    """

    ratio: float = 0.5
    seed: int = 0
    timeout: float = 600.0

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < 1:
            raise MmsharpError(f'ratio is {self.ratio!r}, expected a number from 0 to below 1')
        if not self.timeout > 0:
            raise MmsharpError(f'timeout is {self.timeout!r}, expected a positive number of seconds')

    def to_dict(self) -> dict[str, Any]:
        """In JSON types."""
        return dict(asdict(self), sizes=SIZES)


@dataclass(frozen=True)
class Subject:
    """One config to measure.

    Args:
        toolbox: ``'mmdet'`` or ``'mmpretrain'``.
        family: Name of its family; empty for a config that the user named.
        config: How the row calls it: relative to the toolbox's folder of configs, or the path as given.
        path: The file.
        size: Height and width of the images.
        options: Changes of the config.
    """

    toolbox: str
    family: str
    config: str
    path: Path
    size: int
    options: Mapping[str, Any] = field(default_factory=dict)


def packaged_subjects(toolboxes: Iterable[str] = TOOLBOXES) -> Iterator[Subject]:
    """One subject per family in scope.

    Raises:
        MmsharpError: A toolbox is not installed.
    """
    for toolbox in toolboxes:
        for name, family in in_scope(toolbox):
            path = packaged_config(toolbox, name)
            size = family.size or SIZES[toolbox]
            yield Subject(toolbox, name, f'{name}/{family.config}', path, size, family.options)


def subject_of(config: str, toolbox: str) -> Subject:
    """The subject of a family's name, of a packaged config, or of a config file.

    Raises:
        MmsharpError: It is none of these, or of a family that is out of scope.
    """
    if Path(config).is_file():
        return Subject(toolbox, '', config, Path(config), SIZES[toolbox])
    for subject in packaged_subjects([toolbox]):
        if config in (subject.family, subject.config):
            return subject
    family = FAMILIES[toolbox].get(config)
    why = 'neither a file nor a family' if family is None else f'out of scope: {family.reason}'
    raise MmsharpError(
        f'config {config!r} is {why}; give a path, or a family of {toolbox}, such as {next(in_scope(toolbox))[0]!r}'
    )


def run_survey(
    subjects: Iterable[Subject],
    settings: Settings,
    record: ProbeRecord,
    jobs: int = 1,
    say: Callable[[dict[str, Any]], None] = lambda row: None,
) -> None:
    """Measure every subject that the record lacks, and add its row as soon as it is there.

    Args:
        subjects: What to measure.
        settings: How.
        record: Where the rows go; what is in it is skipped.
        jobs: How many processes at a time.
        say: Called with each new row.
    """
    missing = [subject for subject in subjects if not record.has(subject.toolbox, subject.config, subject.size)]
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        pending = [pool.submit(measured_row, subject, settings) for subject in missing]
        try:
            for done in as_completed(pending):
                record.add(done.result())
                say(done.result())
        except BaseException:
            for future in pending:
                future.cancel()
            raise


def measured_row(subject: Subject, settings: Settings) -> dict[str, Any]:
    """The row of one subject, whatever happens to it.

    ``status`` is ``'pass'`` or ``'fail'``; a failed one has ``stage`` and ``reason``, and what was measured before.
    """
    trial = Trial(
        str(subject.path), subject.toolbox, subject.size, settings.ratio, settings.seed, dict(subject.options)
    )
    row: dict[str, Any] = dict(toolbox=subject.toolbox, family=subject.family, config=subject.config, size=subject.size)
    if subject.options:
        row['options'] = dict(subject.options)
    folder = Path(tempfile.mkdtemp(prefix='mmsharp-prunability-'))
    began = time.monotonic()
    try:
        reason = None
        for call in (measure, rebuild):
            if reason is None:
                reason = run_isolated(call, (trial, folder), folder, settings.timeout, began)
        found = json.loads((folder / ROW).read_text()) if (folder / ROW).is_file() else dict(stage='start')
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    row.update(found, status=PASSED if reason is None else FAILED, seconds=round(time.monotonic() - began, 1))
    if reason is None:
        del row['stage']
    else:
        row['reason'] = without_folders(reason)
    return row


def without_folders(text: str) -> str:
    """A message without the folders of this machine, which say nothing elsewhere.

    Example:
        >>> without_folders("cannot read '/home/me/site-packages/a.py': 1/0 and/or 2 / 3")
        "cannot read 'a.py': 1/0 and/or 2 / 3"
    """
    return re.sub(r'(?<![\w/:])(?:/[\w.+@~-]+)+/(?=[\w.])', '', text)
