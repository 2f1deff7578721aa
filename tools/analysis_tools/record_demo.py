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

from mmsharp.command_line import run
from mmsharp.engine.machine import machine, versions
from mmsharp.files import read_json, replace_marked, write_json

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Demo:
    """Where a demonstration is kept and shown, and what its P is called."""

    record: Path
    document: Path
    metric: str

    @property
    def name(self) -> str:
        """Of the record; of the markers around the table."""
        return self.record.stem


RESULTS = ROOT / 'benchmarks' / 'results'
# By the target of the Makefile.
DEMOS = dict(
    demo=Demo(RESULTS / 'demo_digits_voc.json', ROOT / 'README.md', 'mAP50'),
    classifier=Demo(RESULTS / 'demo_digits_folder.json', ROOT / 'configs' / 'README.md', 'accuracy'),
)
PACKAGES = (
    'torch',
    'torchvision',
    'onedl-mmengine',
    'onedl-mmcv',
    'onedl-mmdetection',
    'onedl-mmpretrain',
    'imagecorruptions-imaug',
)


def render(record: dict[str, Any], metric: str) -> str:
    """The record as its document shows it, in Markdown."""
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
    took = ', '.join(f'{name} {value:g} minutes' for name, value in minutes.items())
    lines += [
        '',
        f'Machine: {place["processor"]}, {place["cores"]} cores, no GPU, Python {place["python"]}, torch '
        f'{record["versions"]["torch"]}; seed {record["seed"]}; {took}. mPC is the mean {metric} over '
        f'{len(record["corruptions"])} corruptions at severities {", ".join(map(str, record["severities"]))}.',
    ]
    return '\n'.join(lines)


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
        seed=0,
        minutes={name: float(value) for name, value in (item.split('=') for item in args.minutes)},
        metric=compared['metric'],
        corruptions=sorted({cell['corruption'] for cell in runs[0]['cells'] if cell['severity']}),
        severities=sorted({cell['severity'] for cell in runs[0]['cells'] if cell['severity']}),
        runs=runs,
    )
    demo.record.parent.mkdir(parents=True, exist_ok=True)
    write_json(demo.record, record)
    rendered = render(record, demo.metric)
    replace_marked(demo.document, demo.name, rendered)
    print(rendered)


if __name__ == '__main__':
    run(main)
