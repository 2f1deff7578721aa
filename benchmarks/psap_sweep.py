"""Which settings of PSAP: short runs of ResNet-20 on CIFAR-10, judged on images held out.

    MMSHARP_DATA=... python benchmarks/psap_sweep.py [--methods ...] [--seeds 0] [--mixed] [--record NAME] [--render]

Every variant prunes the published ResNet-20 to 0.3 of its multiply-accumulates within 8 epochs on 15,000 images, and is
tested on 2,000 images of the test set that no other experiment tests on: the published weights have seen all training
images, and remember them. ``as it is`` measures the sparsity of a layer with the weights of its filters that grow back
(``measure_whole=False``). Defaults are chosen by it. Runs are lines of benchmarks/results/psap_sweep_NAME.jsonl; a
killed sweep goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from adasap_cifar10 import DOCUMENT, prepare
from experiments.arguments import add_arguments
from experiments.publishing import publish
from experiments.record import read_runs, run_all
from experiments.runs import Run, Setting, grid
from psap_cifar10 import BASE, METHODS, SOFT, Method, configure, length, render_methods

from mmsharp.command_line import run

ROOT = Path(__file__).parents[1]
EPOCHS = 8


def psap(
    soft: float = 0.5,
    allocation: str = 'SparsityRatio',
    interval: int | None = None,
    measure_whole: bool = True,
    **protection: Any,
) -> Method:
    """A variant of PSAP: its soft phase, allocation, interval, measure of layers, arguments of its protection."""
    guard = dict(type='mmsharp.ProtectiveReconstruction', **protection)
    hook = dict(SOFT, pruning=soft, interval=interval, measure_whole=measure_whole, protection=guard)
    return hook, allocation, 'Magnitude'


def unprotected(soft: float = 0.5, allocation: str = 'SparsityRatio', **hook: Any) -> Method:
    """A variant without protection."""
    return dict(SOFT, pruning=soft, protection=False, **hook), allocation, 'Magnitude'


VARIANTS: dict[str, Method] = {
    'uniform L2': METHODS['uniform L2'],
    'global L2': METHODS['global L2'],
    'L2, ratios by sparsity': METHODS['L2, ratios by sparsity'],
    'PSAP, soft half': psap(),
    'PSAP, soft quarter': psap(0.25),
    'PSAP, soft half, every 15 iterations': psap(interval=15),
    'PSAP, soft quarter, every 15 iterations': psap(0.25, interval=15),
    'PSAP, soft quarter, every 15 iterations, kappa 2': psap(0.25, interval=15, kappa=2.0),
    'PSAP, soft half, every 15 iterations, refill': psap(interval=15, refill=True),
    'PSAP, soft half, every 15 iterations, uniform ratios': psap(allocation='Uniform', interval=15),
    'PSAP, soft quarter, every 15 iterations, uniform ratios': psap(0.25, allocation='Uniform', interval=15),
    'soft half, every 15 iterations, no protection': unprotected(interval=15),
    'soft quarter, every 15 iterations, no protection': unprotected(0.25, interval=15),
    'as it is: PSAP, soft half': psap(measure_whole=False),
    'as it is: PSAP, soft quarter': psap(0.25, measure_whole=False),
    'as it is: PSAP, soft half, refill': psap(refill=True, measure_whole=False),
    'as it is: PSAP, soft quarter, refill': psap(0.25, refill=True, measure_whole=False),
    'as it is: PSAP, soft half, every 15 iterations': psap(interval=15, measure_whole=False),
    'as it is: PSAP, soft half, every 15 iterations, kappa 2': psap(interval=15, kappa=2.0, measure_whole=False),
    'as it is: PSAP, soft quarter, every 15 iterations': psap(0.25, interval=15, measure_whole=False),
    'as it is: PSAP, soft quarter, every 15 iterations, kappa 2': psap(
        0.25, interval=15, kappa=2.0, measure_whole=False
    ),
    'as it is: soft half, every 15 iterations, no protection': unprotected(interval=15, measure_whole=False),
}


def render(found: Sequence[Mapping[str, Any]], name: str) -> str:
    """The lines of a record in Markdown, with a figure."""
    return render_methods(found, name, VARIANTS)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    work_dir = ROOT / 'work_dirs' / 'psap_sweep'
    add_arguments(parser, tuple(VARIANTS), (0,), work_dir, choices=VARIANTS, criteria=False, budget=0.3)
    return parser.parse_args()


def main() -> None:
    """Perform what is missing, and write the table."""
    args = parse_args()
    name = f'psap_sweep_{args.record}'
    record = ROOT / 'benchmarks' / 'results' / f'{name}.jsonl'
    if not args.render:
        options = {**prepare(args.work_dir, 15_000, 2_000), **length(EPOCHS)}
        test = 'test_dataloader.dataset.data_root'
        options[test] = str(Path(str(options[test])).with_name('holdout'))
        data = '15000 training images, held-out test images'
        same = dict(epochs=EPOCHS)
        setting = Setting(BASE, options, 'accuracy/top1', data, severities=(0,), mixed=args.mixed, same=same)
        cells: list[Run] = grid(args.methods, ['Magnitude'], args.budgets, args.seeds)
        run_all(setting, cells, args.work_dir / name, record, partial(configure, methods=VARIANTS))
    publish(render(read_runs(record), name), name, DOCUMENT)


if __name__ == '__main__':
    run(main)
