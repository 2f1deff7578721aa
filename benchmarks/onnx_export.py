"""Which slim networks can be written as ONNX: one config of every family in the toolboxes' packaged folders.

    python benchmarks/onnx_export.py [--toolbox mmdet|mmpretrain] [CONFIG ...] [--json FILE]

Each config is built without downloads in a process of its own, loses a random half of every channel group, after
branches on the content of its images have been looked for, and is written and compared in onnxruntime as
tools/export.py does it: a classifier's scores, what the head of a single-stage detector gives for every level, feature
maps and region proposals of a two-stage detector. Rows are kept as they are finished; the same command goes on after an
interruption. Whole records are shown in docs/prune.md; --render alone only writes them there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mmsharp.command_line import run
from mmsharp.engine.configs.config import load_config
from mmsharp.engine.export.onnx_export import TOLERANCE, export_onnx
from mmsharp.engine.prunability.examples import announce_first_iteration, training_batch
from mmsharp.engine.prunability.families import TOOLBOXES, config_folder
from mmsharp.engine.prunability.isolation import preload, run_isolated
from mmsharp.engine.prunability.preparation import build, example, prepared
from mmsharp.engine.prunability.record import ProbeRecord
from mmsharp.engine.prunability.survey import Settings, Subject, packaged_subjects, subject_of, without_folders
from mmsharp.engine.prunability.weights import randomise_
from mmsharp.files import replace_marked, write_json
from mmsharp.pruning import ChannelPruner, apply_recipe, find_groups, tensor_forward
from mmsharp.pruning.allocation import Uniform
from mmsharp.pruning.criteria import Random
from mmsharp.pruning.schedules import OneShot

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / 'docs' / 'prune.md'
ROW = 'row.json'
REASON = 160


def export_slim(subject: Subject, settings: Settings, folder: Path) -> None:
    """Prune one config, write it and leave what was found in the folder.

    Raises:
        Exception: Whatever a stage raises.
    """
    torch.set_num_threads(1)
    announce_first_iteration()
    config = prepared(load_config(str(subject.path), dict(subject.options)), config_folder(subject.toolbox))
    model = build(config, settings.seed)
    model.init_weights()  # type: ignore[operator]
    randomise_(model, settings.seed)
    batch = training_batch(config, subject.toolbox, subject.size, 1, settings.seed)
    inputs, samples = example(model, batch, settings.seed)
    pruner = ChannelPruner(
        dict(channels=1 - settings.ratio), Random(settings.seed), Uniform(), OneShot(), min_channels=1, round_to=1
    )
    forward = tensor_forward(inputs, samples)
    pruner.attach(model, forward, find_groups(model, forward, every_kind=True))
    pruner.update(1.0)
    apply_recipe(model, pruner.recipe())
    began = time.process_time()
    report = export_onnx(model, folder / 'slim.onnx', tuple(inputs.shape[1:]))
    write_json(
        folder / ROW,
        dict(
            difference=float(f'{report["difference"]:.2e}'),
            allowed_for_rounding=report['allowed_for_rounding'],
            exporter=report['exporter'],
            failures=[without_folders(failure) for failure in report['failures']],
            reads=report['reads'],
            outputs=len(report['outputs']),
            partial=report['partial'],
            any_batch=max(report['batches']) > 1,
            mebibytes=round(report['bytes'] / 2**20, 1),
            seconds_for_export=round(time.process_time() - began, 1),
        ),
    )


def measured_row(subject: Subject, settings: Settings) -> dict[str, Any]:
    """The row of one config, whatever happens to it."""
    row: dict[str, Any] = dict(toolbox=subject.toolbox, family=subject.family, config=subject.config)
    folder = Path(tempfile.mkdtemp(prefix='mmsharp-export-'))
    try:
        reason = run_isolated(export_slim, (subject, settings, folder), folder, settings.timeout)
        if reason is not None:
            return dict(row, status='fail', reason=without_folders(reason))
        return dict(row, status='pass', **json.loads((folder / ROW).read_text()))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', metavar='CONFIG', help='families, or paths of configs (default: all)')
    parser.add_argument('--toolbox', choices=TOOLBOXES, help='of the configs (default: both)')
    parser.add_argument('--json', type=Path, default=ROOT / 'benchmarks' / 'results' / 'onnx_export_cpu.json')
    parser.add_argument('--timeout', type=float, default=1800.0, help='seconds per config (default: 1800)')
    parser.add_argument('--render', action='store_true', help='only write the table from the record')
    args = parser.parse_args()
    if args.configs and args.toolbox is None:
        parser.error('say with --toolbox which toolbox the configs are of')
    return args


def render(record: dict[str, Any]) -> str:
    """The record in Markdown: counts per toolbox, and what could not be written, with the reason."""
    lines = [
        '| toolbox | families | written | of these in part | for one image at a time | largest difference | '
        'largest that rounding explains |',
        '|---|---:|---:|---:|---:|---:|---:|',
    ]
    for toolbox in TOOLBOXES:
        rows = [row for row in record['rows'] if row['toolbox'] == toolbox]
        written = [row for row in rows if row['status'] == 'pass']
        partial = sum(row['partial'] for row in written)
        single = sum(not row['any_batch'] for row in written)
        plain, allowed = (
            max((row['difference'] for row in written if row['allowed_for_rounding'] is kind), default=0.0)
            for kind in (False, True)
        )
        excused = [row['family'] for row in written if row['allowed_for_rounding']]
        explained = f'{allowed:.1e} ({", ".join(excused)})' if excused else 'none'
        lines.append(f'| {toolbox} | {len(rows)} | {len(written)} | {partial} | {single} | {plain:.1e} | {explained} |')
    lines += ['', '| not written | why |', '|---|---|']
    for row in record['rows']:
        if row['status'] != 'pass':
            lines.append(f'| `{row["config"]}` | {_short(row["reason"])} |')
    reading = [row for row in record['rows'] if row['status'] == 'pass' and row['reads'] != []]
    if reading:
        lines += ['', '| written, and reads numbers out of its images | where |', '|---|---|']
        lines += [f'| `{row["config"]}` | {_places(row["reads"])} |' for row in reading]
    place = record['machine']
    return '\n'.join(
        [
            *lines,
            '',
            f'Random weights, half of every channel group removed, {place["processor"]}, torch '
            f'{record["versions"]["torch"]}. "In part": feature maps and region proposal outputs of two-stage '
            'detectors, the boxes of detectors whose masks need them. Differences are between onnxruntime and PyTorch, '
            "relative to each output's scale.",
        ]
    )


def _places(reads: Sequence[str] | None) -> str:
    return 'not known' if reads is None else ', '.join(f'`{place}`' for place in reads)


def _short(reason: str) -> str:
    """The first thing that an error says, without the name of its class, in one cell of a table."""
    text = reason.removeprefix('MmsharpError: ').split('; ')[0].replace('|', '/')
    return text if len(text) <= REASON else f'{text[:REASON].rstrip()} ...'


def main() -> None:
    """Export what the record lacks, a line for each, and write the table when nothing is missing."""
    args = parse_args()
    settings = Settings(timeout=args.timeout)
    record = ProbeRecord(args.json, dict(settings.to_dict(), tolerance=TOLERANCE))
    everything = list(packaged_subjects(TOOLBOXES))
    if not args.render:
        measure(args, settings, record, everything)
    passed = sum(row['status'] == 'pass' for row in record.rows)
    print(f'{passed} of {len(record.rows)} configs are written; rows in {args.json}')
    if args.render or all(record.has(subject.toolbox, subject.config) for subject in everything):
        replace_marked(DOCUMENT, args.json.stem, render(json.loads(args.json.read_text())))


def measure(args: argparse.Namespace, settings: Settings, record: ProbeRecord, everything: Sequence[Subject]) -> None:
    """Add the rows that the record lacks; those of configs that are named, again."""
    if args.configs:
        missing = [subject_of(config, args.toolbox) for config in args.configs]
    else:
        asked = [subject for subject in everything if args.toolbox in (None, subject.toolbox)]
        missing = [subject for subject in asked if not record.has(subject.toolbox, subject.config)]
    preload(sorted({f'{subject.toolbox}.models' for subject in missing}))
    for subject in tqdm(missing, unit='config'):
        row = measured_row(subject, settings)
        record.add(row)
        if row['status'] == 'pass':
            tqdm.write(f'{subject.config:60} {row["exporter"]:12} differs by {row["difference"]:.1e}')
        else:
            tqdm.write(f'{subject.config:60} FAILS: {row["reason"][:300]}')


if __name__ == '__main__':
    run(main)
