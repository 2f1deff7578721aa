"""What a search of channel masks does to a detector on corrupted images: RetinaNet-R18 on the blood cells of BCCD.

    MMSHARP_DATA=... python benchmarks/csam_bccd.py [--methods magnitude C-SAM] [--budgets 0.4] [--seeds 0] [--mixed]
        [--record NAME] [--render]

Both methods start from one dense detector, which is trained first, remove coupled channels until the same share of
parameters is left, and have the same epochs. That C-SAM's idea is used for detectors is ours, not the
paper's. Runs are lines of benchmarks/results/csam_bccd_NAME.jsonl; a killed experiment goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bccd_robustness import data_options, train
from experiments.arguments import add_arguments
from experiments.performing import perform_without_sharpness
from experiments.publishing import publish
from experiments.record import read_runs, run_all
from experiments.runs import Run, Setting, grid, settle
from experiments.tables import setup, spread, training_cost
from mmengine.config import Config

from mmsharp.command_line import run

ROOT = Path(__file__).parents[1]
NETWORK = 'retinanet_r18_bccd'
DENSE = ROOT / 'configs' / 'dense' / f'{NETWORK}.py'
DOCUMENT = ROOT / 'docs' / 'results.md'
BASELINE = 'magnitude'
METHODS = {BASELINE: 'magnitude', 'AdaSAP': 'adasap', 'C-SAM': 'csam'}
"""The folder of each method's config."""


def configure(setting: Setting, one: Run) -> Config:
    """The config of a run, that of its folder with the data, the share that is left, the seed and the precision."""
    config = Config.fromfile(ROOT / 'configs' / METHODS[one.method] / f'{NETWORK}.py')
    config.merge_from_dict(dict(setting.options))
    if 'search' in config.model:
        config.model.search.budget = dict(params=one.budget)
    else:
        config.default_hooks.pruning.budget = dict(params=one.budget)
    return settle(config, setting, one)


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Mean and standard deviation over the seeds, per budget and method, as Markdown."""
    lines = [
        '| parameters kept | method | seeds | clean | mPC | rPC | MACs kept | cost of training |',
        '|---:|---|---:|---:|---:|---:|---:|---:|',
    ]
    for budget in sorted({line['budget'] for line in found}, reverse=True):
        here = {
            name: [line for line in found if (line['budget'], line['method']) == (budget, name)] for name in METHODS
        }
        for method, lots in here.items():
            if lots:
                cells = [
                    f'{_mean(lots, "parameters"):.1%}',
                    method,
                    str(len(lots)),
                    spread(lots, 'clean'),
                    spread(lots, 'mpc'),
                    f'{_mean(lots, "rpc"):.1%}',
                    f'{_mean(lots, "macs"):.1%}',
                    f'{_cost(lots) / _cost(here[BASELINE]):.2f}x' if here[BASELINE] else '',
                ]
                lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def _mean(lines: Sequence[Mapping[str, Any]], key: str) -> float:
    return sum(line[key] for line in lines) / len(lines)


def _cost(lines: Sequence[Mapping[str, Any]]) -> float:
    return sum(map(training_cost, lines)) / len(lines)


def render(found: Sequence[Mapping[str, Any]], name: str) -> str:
    """The lines of a record in Markdown."""
    return f'{setup(found)}\n\n{table(found)}'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, (BASELINE, 'C-SAM'), (0,), ROOT / 'work_dirs' / 'csam_bccd', choices=METHODS, criteria=False)
    parser.add_argument('--dense', type=Path, help='folder of the dense run (default: in --work-dir)')
    return parser.parse_args()


def main() -> None:
    """Perform what is missing, and write the table."""
    args = parse_args()
    record = ROOT / 'benchmarks' / 'results' / f'csam_bccd_{args.record}.jsonl'
    if not args.render:
        dense = args.dense or args.work_dir / 'dense'
        options = {**data_options(), 'load_from': str(train(dense, DENSE, args.mixed))}
        setting = Setting(ROOT, options, 'pascal_voc/mAP', '205 training images', mixed=args.mixed, tree=True)
        cells = grid(args.methods, ['Magnitude'], args.budgets, args.seeds)
        run_all(setting, cells, args.work_dir / record.stem, record, configure, perform_without_sharpness)
    publish(render(read_runs(record), record.stem), record.stem, DOCUMENT)


if __name__ == '__main__':
    run(main)
