"""Keep what ``make demo`` or ``make classifier`` measured: a record in benchmarks/results, and its table in a document.

    python tools/analysis_tools/record_demo.py work_dirs/robust --minutes setup=11.0 demo=15.2
    python tools/analysis_tools/record_demo.py work_dirs/robust_digits --demo classifier --minutes demo=30.1

The table is nothing but this record, rendered; a test compares the two.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmsharp.command_line import run
from mmsharp.engine.costs.machine import machine, versions
from mmsharp.errors import MmsharpError
from mmsharp.files import read_json, replace_marked, write_json

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Demo:
    """Where a demonstration is kept and shown."""

    record: Path
    document: Path

    @property
    def name(self) -> str:
        """Of the record; of the markers around the table."""
        return self.record.stem


RESULTS = ROOT / 'benchmarks' / 'results'
# By the target of the Makefile.
DEMOS = dict(
    demo=Demo(RESULTS / 'demo_digits_voc.json', ROOT / 'README.md'),
    classifier=Demo(RESULTS / 'demo_digits_folder.json', ROOT / 'configs' / 'README.md'),
)
NAMES = {'pascal_voc/mAP': 'mAP50', 'accuracy/top1': 'accuracy'}
"""What readers call a metric."""
PACKAGES = (
    'torch',
    'torchvision',
    'onedl-mmengine',
    'onedl-mmcv',
    'onedl-mmdetection',
    'onedl-mmpretrain',
    'imagecorruptions-imaug',
)


def render(record: dict[str, Any]) -> str:
    """The record as its document shows it, in Markdown."""
    metric = NAMES.get(record['metric'], record['metric'])
    lines = [
        f'| model | parameters | MACs | latency | clean {metric} | mPC | rPC |',
        '|---|---:|---:|---:|---:|---:|---:|',
    ]
    digits = 1 if record['runs'][0]['scores']['clean'] > 1 else 3
    for entry in record['runs']:
        model, scores = entry['model'], entry['scores']
        lines.append(
            f'| {entry["name"]} | {model["parameters"] / 1e6:.2f} M | {model["macs"] / 1e6:.0f} M | '
            f'{model["latency_ms"]:.1f} ms | {scores["clean"]:.{digits}f} | {scores["mpc"]:.{digits}f} | '
            f'{scores["rpc"]:.1%} |'
        )
    place, minutes = record['machine'], record['minutes']
    took = ', '.join(f'{name}: {value:g} minutes' for name, value in minutes.items())
    lines += [
        '',
        f'Machine: {place["processor"]}, {place["cores"]} cores, {place["gpu"] or "no GPU"}, Python {place["python"]}, '
        f'torch {record["versions"]["torch"]}; seed {record["seed"]}; {took}. mPC is the mean {metric} over '
        f'{len(record["corruptions"])} corruptions at severities {", ".join(map(str, record["severities"]))}, '
        'rPC its share of clean.',
    ]
    return '\n'.join(lines)


def seed_of(runs: list[dict[str, Any]]) -> int:
    """The seed of the trainings, as the configs of all runs say.

    Raises:
        MmsharpError: They say different ones, or none.
    """
    seeds = {
        run['name']: (Config.fromfile(run['source']['config']).get('randomness') or {}).get('seed') for run in runs
    }
    if len(set(seeds.values())) != 1 or None in seeds.values():
        raise MmsharpError(f'the runs have no seed in common: {seeds}; set randomness.seed in their configs')
    return next(iter(seeds.values()))


def minutes_of(item: str) -> tuple[str, float]:
    """What a step took, of ``NAME=VALUE``.

    Raises:
        MmsharpError: It is of another form.
    """
    name, _, value = item.partition('=')
    try:
        return name, float(value)
    except ValueError:
        raise MmsharpError(f'--minutes {item!r} is not NAME=VALUE with a number of minutes') from None


def main() -> None:
    """Write the record and its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path, help='where tools/test_robust.py --compare wrote')
    parser.add_argument('--demo', choices=DEMOS, default='demo', help='which one it was (default: demo)')
    parser.add_argument('--minutes', nargs='+', default=[], metavar='NAME=VALUE', help='how long the steps took')
    args = parser.parse_args()
    demo = DEMOS[args.demo]
    path = args.folder / 'compare.json'
    compared = read_json(path, f'run make {args.demo} first, or give the folder of a comparison', ('runs', 'metric'))
    runs = [{key: entry[key] for key in ('name', 'model', 'scores', 'cells')} for entry in compared['runs']]
    record = dict(
        machine=machine(),
        versions=versions(PACKAGES),
        seed=seed_of(compared['runs']),
        minutes=dict(map(minutes_of, args.minutes)),
        metric=compared['metric'],
        corruptions=sorted({cell['corruption'] for cell in runs[0]['cells'] if cell['severity']}),
        severities=sorted({cell['severity'] for cell in runs[0]['cells'] if cell['severity']}),
        runs=runs,
    )
    demo.record.parent.mkdir(parents=True, exist_ok=True)
    write_json(demo.record, record)
    rendered = render(record)
    replace_marked(demo.document, demo.name, rendered)
    print(rendered)


if __name__ == '__main__':
    run(main)
