"""Which allocation, and which last radius of AdaSAP, on a detector: short runs of RTMDet-tiny on BCCD.

    MMSHARP_DATA=... python benchmarks/adasap_bccd_sweep.py [--methods ...] [--seeds 0] [--record NAME] [--render]

They are judged on the validation images. Every variant prunes the dense detector of benchmarks/bccd_robustness.py to
0.40 of its parameters within 12 epochs, and is evaluated clean and under 15 corruptions at severity 3 on the 87
validation images, which benchmarks/adasap_bccd.py does not test on. The dense detector was chosen by these images, the
same for all. Runs are lines of benchmarks/results/adasap_bccd_sweep_NAME.jsonl; a killed sweep goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adasap_bccd import BASE, DENSE, DOCUMENT
from adasap_sweep import adasap, asam, sam, uniform
from bccd_robustness import data_options, train
from experiments import tables
from experiments.arguments import add_arguments
from experiments.methods import METHODS
from experiments.publishing import publish
from experiments.record import read_runs, run_all
from experiments.runs import Setting, grid

from mmsharp.command_line import run

ROOT = Path(__file__).parents[1]
EPOCHS = 12
SHORTER = {
    'train_cfg.max_epochs': EPOCHS,
    'param_scheduler.1.begin': 4,
    'param_scheduler.1.end': EPOCHS,
    'param_scheduler.1.T_max': EPOCHS - 4,
    'default_hooks.pruning.warmup': 1,
    'default_hooks.pruning.pruning': 3,
    'test_dataloader.dataset.ann_file': 'ImageSets/Main/val.txt',
}
ALLOCATION = 'default_hooks.pruning.pruner.allocation'
VARIANTS: dict[str, dict[str, Any]] = {
    'SGD': METHODS['SGD'],
    'SGD, uniform allocation': {ALLOCATION: dict(type='mmsharp.Uniform')},
    'SGD, global allocation': {ALLOCATION: dict(type='mmsharp.Global')},
    'ASAM 0.5': adasap(asam(0.5)),
    'ASAM 0.2': adasap(asam(0.2)),
    'ASAM 0.1': adasap(asam(0.1)),
    'SAM 0.05': adasap(sam(0.05)),
    'uniform 0.02': adasap(uniform(0.02)),
    'uniform 0.005': adasap(uniform(0.005)),
}
"""How channels are spread over the groups, under plain training; and the ascent of the last phase, where those before
are the defaults."""


def render(found: Sequence[Mapping[str, Any]], name: str) -> str:
    """The lines of a record in Markdown, with figures."""
    return tables.render(found, name, DOCUMENT, VARIANTS, 'validation images')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, tuple(VARIANTS), (0,), ROOT / 'work_dirs' / 'adasap_bccd_sweep', choices=VARIANTS)
    parser.add_argument('--dense', type=Path, default=DENSE, help='dense run')
    return parser.parse_args()


def main() -> None:
    """Perform what is missing, and write the table."""
    args = parse_args()
    record = ROOT / 'benchmarks' / 'results' / f'adasap_bccd_sweep_{args.record}.jsonl'
    if not args.render:
        options = {**data_options(), **SHORTER, 'load_from': str(train(args.dense, mixed=args.mixed))}
        setting = Setting(
            BASE,
            options,
            'pascal_voc/mAP',
            '205 training images, validation images',
            VARIANTS,
            severities=(0, 3),
            mixed=args.mixed,
            tree=True,
        )
        run_all(
            setting, grid(args.methods, args.criteria, args.budgets, args.seeds), args.work_dir / record.stem, record
        )
    publish(render(read_runs(record), record.stem), record.stem, DOCUMENT)


if __name__ == '__main__':
    run(main)
