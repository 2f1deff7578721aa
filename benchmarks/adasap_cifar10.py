"""What sharpness-aware pruning does to corrupted accuracy: ResNet-20 on CIFAR-10.

    MMSHARP_DATA=... python benchmarks/adasap_cifar10.py [--methods SGD AdaSAP ...] [--budgets 0.4] [--seeds 0 1 2]
        [--train 15000] [--test 2000] [--times 1] [--record NAME] [--render]

All methods prune the published ResNet-20 with the same schedule, epochs and learning rate; they differ in the optimizer
wrapper alone, and ``SGD, twice the epochs`` has the compute that a second pass costs. The slim networks are evaluated
clean and under 15 corruptions at 5 severities of CIFAR-10-C's constants. Runs are lines of
benchmarks/results/adasap_cifar10_NAME.jsonl; a killed experiment goes on where it was. ``--render`` only writes the
tables of docs/results.md from the record. ``--times 4 --record cpu_long`` asks what remains of the differences when
trainings converge. ``--train 48000 --test 8000`` is everything, for a GPU; the other
2,000 test images are what settings were chosen on, whatever ``--test`` is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import tables
from experiments.arguments import add_arguments, data_folder
from experiments.publishing import publish
from experiments.record import read_runs, run_all
from experiments.runs import Setting, grid

from mmsharp.command_line import run
from mmsharp.datasets.cifar10_folder import CIFAR10Folder, write_cifar10_folder

ROOT = Path(__file__).parents[1]
BASE = ROOT / 'configs' / 'magnitude' / 'resnet20_cifar10.py'
DOCUMENT = ROOT / 'docs' / 'results.md'
DEFAULT = ('SGD', 'SGD, twice the epochs', 'SAM', 'AdaSAP', 'AdaSAP along the momentum')
VALIDATION = 2000
"""Training images left out, and test images held out for the choice of settings."""
HOLDOUT_AFTER = 2000
"""How many test images are drawn before these: they are the same beside every number of test images."""


def prepare(
    work_dir: Path, train: int, test: int, holdout: int = VALIDATION, holdout_after: int = HOLDOUT_AFTER
) -> dict[str, object]:
    """The data and the published weights, and the options that name them."""
    source = data_folder()
    other = () if (holdout, holdout_after) == (VALIDATION, HOLDOUT_AFTER) else (holdout, holdout_after)
    folder = work_dir / '_'.join(map(str, ('data', train, test, *other)))
    settings = CIFAR10Folder(train=train, val=VALIDATION, test=test, holdout=holdout, holdout_after=holdout_after)
    for _ in write_cifar10_folder(source / 'cifar10', folder, settings):
        pass
    weights = work_dir / 'resnet20.pth'
    if not weights.is_file():
        sys.path.insert(0, str(ROOT / 'tools' / 'model_converters'))
        from cifar_resnet import convert_file

        convert_file(source / 'weights' / 'resnet20-12fca82f.th', weights)
    options: dict[str, object] = {
        f'{split}_dataloader.dataset.data_root': str(folder / split) for split in ('train', 'val', 'test')
    }
    return {**options, 'load_from': str(weights)}


def render(found: Sequence[Mapping[str, Any]], name: str) -> str:
    """The lines of a record in Markdown, with figures."""
    return tables.render(found, name, DOCUMENT)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, DEFAULT, (0, 1, 2), ROOT / 'work_dirs' / 'adasap_cifar10')
    parser.add_argument('--train', type=int, default=15_000, help='training images (default: 15000)')
    parser.add_argument('--test', type=int, default=2_000, help='test images (default: 2000)')
    parser.add_argument('--times', type=int, default=1, help='so many times the epochs, every phase with them')
    return parser.parse_args()


def main() -> None:
    """Perform what is missing, and write the tables."""
    args = parse_args()
    record = ROOT / 'benchmarks' / 'results' / f'adasap_cifar10_{args.record}.jsonl'
    if not args.render:
        setting = Setting(
            BASE,
            prepare(args.work_dir, args.train, args.test),
            'accuracy/top1',
            f'{args.train} training images',
            mixed=args.mixed,
            tree=True,
            times=args.times,
            same=dict(images=args.test, times=args.times),
        )
        runs = grid(args.methods, args.criteria, args.budgets, args.seeds)
        run_all(setting, runs, args.work_dir / record.stem, record)
    publish(render(read_runs(record), record.stem), record.stem, DOCUMENT)


if __name__ == '__main__':
    run(main)
