"""What sharpness-aware pruning does to a detector on corrupted images: RTMDet-tiny on the blood cells of BCCD.

    MMSHARP_DATA=... python benchmarks/adasap_bccd.py [--methods SGD AdaSAP] [--budgets 0.4] [--seeds 0 1 2]
        [--record NAME] [--render]

The dense detector is the one that benchmarks/bccd_robustness.py trains, once; every method prunes it with the same
schedule, epochs and learning rate (AdamW is the plain optimizer here and is called SGD in the table of methods). Runs
are lines of benchmarks/results/adasap_bccd_NAME.jsonl; a killed experiment goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bccd_robustness import data_options, train
from experiments import tables
from experiments.arguments import add_arguments
from experiments.publishing import publish
from experiments.record import read_runs, run_all
from experiments.runs import Setting, grid

from mmsharp.command_line import run

ROOT = Path(__file__).parents[1]
BASE = ROOT / 'configs' / 'magnitude' / 'rtmdet_tiny_bccd.py'
DOCUMENT = ROOT / 'docs' / 'results.md'
DENSE = ROOT / 'work_dirs' / 'bccd_robustness' / 'train'
"""Where benchmarks/bccd_robustness.py trains."""


def render(found: Sequence[Mapping[str, Any]], name: str) -> str:
    """The lines of a record in Markdown, with figures."""
    return tables.render(found, name, DOCUMENT)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, ('SGD', 'AdaSAP'), (0, 1, 2), ROOT / 'work_dirs' / 'adasap_bccd')
    parser.add_argument('--dense', type=Path, default=DENSE, help='dense run')
    return parser.parse_args()


def main() -> None:
    """Perform what is missing, and write the tables."""
    args = parse_args()
    record = ROOT / 'benchmarks' / 'results' / f'adasap_bccd_{args.record}.jsonl'
    if not args.render:
        options = {**data_options(), 'load_from': str(train(args.dense, mixed=args.mixed))}
        setting = Setting(BASE, options, 'pascal_voc/mAP', '205 training images', mixed=args.mixed, tree=True)
        runs = grid(args.methods, args.criteria, args.budgets, args.seeds)
        run_all(setting, runs, args.work_dir / record.stem, record)
    publish(render(read_runs(record), record.stem), record.stem, DOCUMENT)


if __name__ == '__main__':
    run(main)
