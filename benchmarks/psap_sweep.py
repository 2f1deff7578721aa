"""Which settings of PSAP: short runs of ResNet-20 on CIFAR-10, judged on images held out.

    MMSHARP_DATA=... python benchmarks/psap_sweep.py [--methods ...] [--seeds 0] [--mixed] [--record NAME] [--render]

Every variant prunes the published ResNet-20 to 0.3 of its multiply-accumulates within 8 epochs on 15,000 images, and is
tested on 6,000 images of the test set that benchmarks/psap_cifar10.py does not test on: they come behind the 4,000 of
that one in a fixed order. The published weights have seen all training images, and remember them. Defaults are chosen
by it. ``later`` is the schedule FORCE from one eighth of the training to seven sixteenths, instead of a linear one over
the first quarter; ``as it is`` measures the sparsity of a layer with the weights of its filters that grow back
(``measure_whole=False``). Runs are lines of benchmarks/results/psap_sweep_NAME.jsonl; a killed sweep goes on where it
was.
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
from psap_cifar10 import BASE, METHODS, SOFT, TEST, Method, configure, length, render_methods

from mmsharp.command_line import run

ROOT = Path(__file__).parents[1]
EPOCHS = 8
HOLDOUT = 6_000


LATER = dict(type='mmsharp.PruningHook', warmup=0.125, pruning=0.3125, interval=30)


def soft(share: float, allocation: str = 'SparsityRatio', **hook: Any) -> Method:
    """A variant of PSAP: the share of its soft phase, its allocation, and what else its hook is told."""
    return Method(dict(SOFT, pruning=share, **hook), allocation)


def protection(**arguments: Any) -> dict[str, Any]:
    """PSAP's, with other arguments."""
    return dict(type='mmsharp.ProtectiveReconstruction', **arguments)


AS_IT_IS = dict(measure_whole=False)
VARIANTS: dict[str, Method] = {
    'uniform L2': METHODS['uniform L2'],
    'uniform L2, later': Method(LATER, schedule='FORCE'),
    'global L2': METHODS['global L2'],
    'L2, ratios by sparsity': METHODS['L2, ratios by sparsity'],
    'L2, ratios by sparsity, later': Method(LATER, 'SparsityRatio', schedule='FORCE'),
    'PSAP, soft half': soft(0.5),
    'PSAP, soft quarter': soft(0.25),
    'PSAP, soft half, every 15 iterations': soft(0.5, interval=15),
    'PSAP, soft quarter, every 15 iterations': soft(0.25, interval=15),
    'PSAP, soft quarter, every 15 iterations, kappa 2': soft(0.25, interval=15, protection=protection(kappa=2.0)),
    'PSAP, soft quarter, no gates': soft(0.25, protection=protection(gate=False)),
    'PSAP, soft quarter, beside kept': soft(0.25, protection=protection(among='kept')),
    'PSAP, soft quarter, beside kept, memory 0.99': soft(0.25, protection=protection(among='kept', memory=0.99)),
    'PSAP, soft quarter, beside kept, kappa 0': soft(0.25, protection=protection(among='kept', kappa=0.0)),
    'PSAP, soft quarter, beside kept, refill': soft(0.25, protection=protection(among='kept', refill=True)),
    'PSAP, soft quarter, no memory': soft(0.25, protection=protection(memory=0.0, weight=0.0)),
    'PSAP, soft quarter, no gates, no memory': soft(0.25, protection=protection(gate=False, memory=0.0, weight=0.0)),
    'PSAP, soft quarter, weight 0.25': soft(0.25, protection=protection(weight=0.25)),
    'PSAP, soft quarter, no gates, weight 0.25': soft(0.25, protection=protection(gate=False, weight=0.25)),
    'PSAP, soft quarter, kappa 2': soft(0.25, protection=protection(kappa=2.0)),
    'PSAP, soft quarter, refill': soft(0.25, protection=protection(refill=True)),
    'PSAP, soft half, every 15 iterations, uniform ratios': soft(0.5, 'Uniform', interval=15),
    'PSAP, soft quarter, uniform ratios': soft(0.25, 'Uniform'),
    'soft quarter, no protection': soft(0.25, protection=False),
    'as it is: PSAP, soft half': soft(0.5, **AS_IT_IS),
    'as it is: PSAP, soft quarter': soft(0.25, **AS_IT_IS),
    'as it is: PSAP, soft half, refill': soft(0.5, protection=protection(refill=True), **AS_IT_IS),
    'as it is: PSAP, soft quarter, refill': soft(0.25, protection=protection(refill=True), **AS_IT_IS),
    'as it is: PSAP, soft half, every 15 iterations': soft(0.5, interval=15, **AS_IT_IS),
    'as it is: PSAP, soft quarter, every 15 iterations': soft(0.25, interval=15, **AS_IT_IS),
    'as it is: PSAP, soft half, every 15 iterations, kappa 2': soft(
        0.5, interval=15, protection=protection(kappa=2.0), **AS_IT_IS
    ),
    'as it is: PSAP, soft quarter, every 15 iterations, kappa 2': soft(
        0.25, interval=15, protection=protection(kappa=2.0), **AS_IT_IS
    ),
    'as it is: soft half, every 15 iterations, no protection': soft(0.5, interval=15, protection=False, **AS_IT_IS),
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
        options = {**prepare(args.work_dir, 15_000, TEST, HOLDOUT), **length(EPOCHS)}
        test = 'test_dataloader.dataset.data_root'
        options[test] = str(Path(str(options[test])).with_name('holdout'))
        data = '15000 training images, held-out test images'
        same = dict(epochs=EPOCHS, images=HOLDOUT)
        setting = Setting(BASE, options, 'accuracy/top1', data, severities=(0,), mixed=args.mixed, same=same)
        cells: list[Run] = grid(args.methods, ['Magnitude'], args.budgets, args.seeds)
        run_all(setting, cells, args.work_dir / name, record, partial(configure, methods=VARIANTS))
    publish(render(read_runs(record), name), name, DOCUMENT)


if __name__ == '__main__':
    run(main)
