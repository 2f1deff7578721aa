"""Measure what pruning can remove from one config of every family of the toolboxes, and whether they survive it.

    python tools/analysis_tools/prunability.py --json benchmarks/results/prunability.json
    python tools/analysis_tools/prunability.py --toolbox mmdet faster_rcnn my_config.py --ratio 0.5 --json rows.json
    python tools/analysis_tools/prunability.py --json benchmarks/results/prunability.json --page docs/prunability.md

Each config is built without downloads in a process of its own, half of every channel group is masked, and the masked
and the slim network are compared, trained for a step and rebuilt. A crash or a config that takes too long is a row of
the table with its reason. Rows are kept as they are finished: the same command goes on after an interruption. With
--page the record is rendered and nothing is measured.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmsharp.command_line import run
from mmsharp.engine.prunability import ProbeRecord, Settings, render, run_survey
from mmsharp.engine.prunability.families import TOOLBOXES
from mmsharp.engine.prunability.isolation import preload
from mmsharp.engine.prunability.survey import Subject, packaged_subjects, subject_of
from mmsharp.files import read_json, write_text


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='*', metavar='CONFIG', help='families, or paths of configs (default: all)')
    parser.add_argument('--toolbox', choices=TOOLBOXES, help='of the configs (default: both)')
    parser.add_argument('--size', type=int, help='of the images (default: one that suits most of the toolbox)')
    parser.add_argument('--ratio', type=float, default=0.5, help='share of each group to mask (default: 0.5)')
    parser.add_argument('--json', required=True, type=Path, help='where the rows are kept')
    parser.add_argument('--timeout', type=float, default=600, metavar='SECONDS', help='per config (default: 600)')
    parser.add_argument('--jobs', type=int, default=1, help='configs at a time, a core each (default: 1)')
    parser.add_argument('--seed', type=int, default=0, help='of weights, images and scores (default: 0)')
    parser.add_argument('--page', type=Path, help='render the record to this Markdown file instead of measuring')
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error('--jobs has to be at least 1')
    if args.configs and args.toolbox is None:
        parser.error('say with --toolbox which toolbox the configs are of')
    if args.size is not None and (args.size < 1 or not args.configs):
        parser.error('--size takes a height and width from 1, for the configs that are named')
    return args


def main() -> None:
    """Measure what is missing, and print a line for each; or render the page."""
    args = parse_args()
    if args.page is not None:
        record = read_json(args.json, 'measure first', ('machine', 'versions', 'settings', 'rows'))
        write_text(args.page, render(record))
        return
    settings = Settings(args.ratio, args.seed, args.timeout)
    record = ProbeRecord(args.json, settings.to_dict())
    subjects = _subjects(args)
    preload(['mmsharp.engine.prunability.config_trial', *sorted({f'{subject.toolbox}.models' for subject in subjects})])
    done = sum(record.has(subject.toolbox, subject.config, subject.size) for subject in subjects)
    with tqdm(total=len(subjects), initial=done, unit='config') as progress:

        def say(row: dict[str, Any]) -> None:
            progress.write(_line(row))
            progress.update()

        run_survey(subjects, settings, record, args.jobs, say)
    passed = sum(row['status'] == 'pass' for row in record.rows)
    print(f'{passed} of {len(record.rows)} configs pass; rows in {args.json}')


def _subjects(args: argparse.Namespace) -> list[Subject]:
    if args.configs:
        subjects = [subject_of(config, args.toolbox) for config in args.configs]
        return [replace(subject, size=args.size) for subject in subjects] if args.size else subjects
    return list(packaged_subjects([args.toolbox] if args.toolbox else TOOLBOXES))


def _line(row: dict[str, Any]) -> str:
    if row['status'] != 'pass':
        return f'{row["config"]:60} FAILS at {row["stage"]}: {row["reason"][:200]}'
    return (
        f'{row["config"]:60} passes, {row["params_removed"]:.0%} of parameters and {row["macs_removed"]:.0%} of MACs '
        f'removed, groups found in {row["seconds_for_groups"]:.1f} s'
    )


if __name__ == '__main__':
    run(main)
