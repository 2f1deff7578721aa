"""Which settings of PSAP: short runs of ResNet-20 on CIFAR-10, judged on images held out.

    MMSHARP_DATA=... python benchmarks/psap_sweep.py [--methods ...] [--seeds 0] [--mixed] [--record NAME] [--render]

Every variant prunes the published ResNet-20 to 0.3 of its multiply-accumulates within 8 epochs on 15,000 images, and is
tested on 6,000 images of the test set that benchmarks/psap_cifar10.py does not test on: they come behind the 4,000 of
that one in a fixed order. The published weights have seen all training images, and remember them. Defaults are chosen
by it. A variant is named after its protection, the length of its soft phase, and what else is not as usual: ``every 29
iterations`` has a last step 4 iterations before the masks are held, and not most of an interval; ``as it is`` measures
the sparsity of a layer with the weights of its filters that grow back (``measure_whole=False``). ``later`` is the
schedule FORCE from one eighth of the training to seven sixteenths, instead of a linear one over the first quarter. Runs
are lines of benchmarks/results/psap_sweep_NAME.jsonl; a killed sweep goes on where it was. Without ``--methods`` it
runs a few; all that there are: ``--methods ?``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from adasap_cifar10 import DOCUMENT, prepare
from experiments.arguments import add_arguments
from experiments.publishing import publish
from experiments.record import read_runs, run_all
from experiments.runs import Run, Setting, grid
from psap_cifar10 import BASE, METHODS, PROTECTION, TEST, Method, configure, length, render_methods

from mmsharp.command_line import run

ROOT = Path(__file__).parents[1]
EPOCHS = 8
HOLDOUT = 6_000
LATER = dict(type='mmsharp.PruningHook', warmup=0.125, pruning=0.3125, interval=30)
SHARES = {'quarter': 0.25, 'half': 0.5}
INTERVALS = {'': None, 'every 15 iterations': 15, 'every 29 iterations': 29}
ALLOCATIONS = {'': 'SparsityRatio', 'uniform ratios': 'Uniform'}
MEASURES = {'': True, 'as it is': False}
GATES = dict(gate=True)
PROTECTIONS: dict[str, dict[str, Any] | None] = {
    'no protection': None,
    'PSAP': {},
    'PSAP, no memory': dict(memory=0.0, weight=0.0),
    'PSAP, gates': GATES,
    'PSAP, gates, kappa 2': dict(GATES, kappa=2.0),
    'PSAP, gates, refill': dict(GATES, refill=True),
    'PSAP, gates, weight 0.25': dict(GATES, weight=0.25),
    'PSAP, gates, no memory': dict(GATES, memory=0.0, weight=0.0),
    'PSAP, gates, beside kept': dict(GATES, among='kept'),
    'PSAP, gates, beside kept, memory 0.99': dict(GATES, among='kept', memory=0.99),
}


def soft_phases() -> dict[str, Method]:
    """Every combination of what a soft phase is made of, by its name."""
    found = {}
    parts = product(SHARES, PROTECTIONS, INTERVALS, ALLOCATIONS, MEASURES)
    for share, protection, interval, allocation, measure in parts:
        changed = PROTECTIONS[protection]
        hook = dict(
            type='mmsharp.PSAPHook',
            pruning=SHARES[share],
            interval=INTERVALS[interval],
            measure_whole=MEASURES[measure],
            protection=changed is not None and {**PROTECTION, **changed},
        )
        name = ', '.join(filter(None, (protection, share, interval, allocation, measure)))
        found[name] = Method(hook, ALLOCATIONS[allocation])
    return found


VARIANTS: dict[str, Method] = {
    'uniform L2': METHODS['uniform L2'],
    'uniform L2, later': Method(LATER, schedule='FORCE'),
    'global L2': METHODS['global L2'],
    'L2, ratios by sparsity': METHODS['L2, ratios by sparsity'],
    'L2, ratios by sparsity, later': Method(LATER, 'SparsityRatio', schedule='FORCE'),
    **soft_phases(),
}
DEFAULT = (
    'no protection, quarter',
    'no protection, quarter, as it is',
    'PSAP, quarter',
    'PSAP, half',
    'PSAP, no memory, quarter',
    'PSAP, gates, quarter',
    'PSAP, gates, no memory, quarter',
)


def render(found: Sequence[Mapping[str, Any]], name: str) -> str:
    """The lines of a record in Markdown, with a figure."""
    return render_methods(found, name, VARIANTS, DOCUMENT)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    work_dir = ROOT / 'work_dirs' / 'psap_sweep'
    add_arguments(parser, DEFAULT, (0,), work_dir, choices=VARIANTS, criteria=False, budget=0.3)
    return parser.parse_args()


def main() -> None:
    """Perform what is missing, and write the table."""
    args = parse_args()
    name = f'psap_sweep_{args.record}'
    record = ROOT / 'benchmarks' / 'results' / f'{name}.jsonl'
    if not args.render:
        options = {**prepare(args.work_dir, 15_000, TEST, HOLDOUT, TEST), **length(EPOCHS)}
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
