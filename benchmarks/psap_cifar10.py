"""What PSAP, as we read it, does to accuracy beside other ways to choose filters: ResNet-20 on CIFAR-10.

    MMSHARP_DATA=... python benchmarks/psap_cifar10.py [--methods PSAP 'uniform L2' ...] [--budgets 0.3 0.5]
        [--seeds 0 1 2] [--scratch] [--epochs 24] [--train 25000] [--test 4000] [--mixed] [--record NAME] [--render]

Budgets are the share of multiply-accumulates that is left. All methods have the same images, epochs, rates and budget,
and channels go one by one; they start from the published weights, or with ``--scratch`` from random ones with five
times the learning rate. All prune in a quarter of the training, linearly, and have the rest to recover; the L2
baselines hold their masks at once, those with parts of PSAP after that quarter. Soft filter pruning and FPGM have half
of the training for their soft phase, which as published lasts to the end. From random weights all prune in three
quarters of the training: filters that are chosen early are chosen by chance. Runs are lines of
benchmarks/results/psap_cifar10_NAME.jsonl (psap_cifar10_NAME_scratch.jsonl); a killed experiment goes on where it was.
``--render`` only writes the table of docs/results.md from the record. In full, for a GPU: ``--methods all --train 48000
--epochs 200 --budgets 0.5 0.3 --record gpu``, once with ``--scratch``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from adasap_cifar10 import BASE, DOCUMENT, VALIDATION, prepare
from experiments import runs
from experiments.arguments import add_mixed
from experiments.figures import Panel, draw_by_method
from experiments.publishing import publish
from experiments.record import read_runs, run_all
from experiments.runs import Run, Setting
from experiments.tables import setup, spread, training_cost
from mmengine.config import Config

from mmsharp.command_line import run
from mmsharp.errors import MmsharpError

ROOT = Path(__file__).parents[1]
PROTECTION = Config.fromfile(ROOT / 'configs' / '_base_' / 'psap.py').psap_hooks.pruning.protection.to_dict()
"""The defaults, written out: lines of a record say what they were."""
SOFT = dict(type='mmsharp.PSAPHook', pruning=0.25, protection=PROTECTION)
HELD = dict(type='mmsharp.PruningHook', warmup=0.0, pruning=0.25, interval=30)
SOFT_FILTER_PRUNING = dict(SOFT, pruning=0.5, protection=False, limit_regrowth=False, clear_momentum=False)
TEST = 4_000


@dataclass(frozen=True)
class Method:
    """Hook, and what its pruner is made of."""

    hook: Mapping[str, Any]
    allocation: str = 'Uniform'
    criterion: str = 'Magnitude'
    schedule: str = 'Linear'


METHODS = {
    'uniform L2': Method(HELD),
    'global L2': Method(HELD, 'Global'),
    'L2, ratios by sparsity': Method(HELD, 'SparsityRatio'),
    'soft filter pruning': Method(SOFT_FILTER_PRUNING),
    'FPGM': Method(SOFT_FILTER_PRUNING, criterion='GeometricMedian'),
    'PSAP': Method(SOFT, 'SparsityRatio'),
    'PSAP, uniform ratios': Method(SOFT),
    'PSAP, gates': Method(dict(SOFT, protection=dict(PROTECTION, gate=True)), 'SparsityRatio'),
    'PSAP, no protection': Method(dict(SOFT, protection=False), 'SparsityRatio'),
    'PSAP, uniform ratios, no protection': Method(dict(SOFT, protection=False)),
}
DEFAULT = (
    'uniform L2',
    'L2, ratios by sparsity',
    'soft filter pruning',
    'PSAP',
    'PSAP, uniform ratios',
    'PSAP, no protection',
    'PSAP, uniform ratios, no protection',
)
SCRATCH = {'load_from': None, 'optim_wrapper.optimizer.lr': 0.1, 'param_scheduler.0.eta_min': 0.001}
SCRATCH_PRUNING = 0.75


def configure(setting: Setting, cell: Run, methods: Mapping[str, Method] = METHODS) -> Config:
    """The config of a run: that of the experiments' baseline, with the hook and the budget of the method."""
    config = runs.configure(replace(setting, methods={cell.method: {}}), cell)
    method = methods[cell.method]
    pruner = dict(
        type='mmsharp.ChannelPruner',
        criterion=dict(type=f'mmsharp.{method.criterion}'),
        allocation=dict(type=f'mmsharp.{method.allocation}'),
        schedule=dict(type=f'mmsharp.{method.schedule}'),
        round_to=1,
    )
    config.default_hooks.pruning = dict(method.hook, budget=dict(macs=cell.budget), pruner=pruner)
    if config.load_from is None:
        config.default_hooks.pruning.pruning = SCRATCH_PRUNING
    return config


def length(epochs: int) -> dict[str, Any]:
    """Options for a training of so many epochs, with the cosine of the rate over all of them."""
    return {'train_cfg.max_epochs': epochs, 'param_scheduler.0.T_max': epochs, 'param_scheduler.0.end': epochs}


def runs_of(methods: Sequence[str], budgets: Sequence[float], seeds: Sequence[int]) -> list[Run]:
    """All combinations, seed by seed, so that a record that was cut off compares what it has.

    Example:
        >>> [run.criterion for run in runs_of(['FPGM', 'PSAP'], [0.3], [0])]
        ['GeometricMedian', 'Magnitude']
    """
    return [
        Run(name, METHODS[name].criterion, budget, seed) for seed in seeds for budget in budgets for name in methods
    ]


def table(found: Sequence[Mapping[str, Any]], methods: Iterable[str] = tuple(METHODS)) -> str:
    """Mean and standard deviation over the seeds, per budget and method, as Markdown."""
    lines = [
        '| MACs kept | method | seeds | accuracy | parameters kept | cost of training |',
        '|---:|---|---:|---:|---:|---:|',
    ]
    for budget in sorted({line['budget'] for line in found}, reverse=True):
        for method in methods:
            lots = [line for line in found if (line['budget'], line['method']) == (budget, method)]
            if lots:
                lines.append(
                    f'| {mean(line["macs"] for line in lots):.1%} | {method} | {len(lots)} | {spread(lots, "clean")} | '
                    f'{mean(line["parameters"] for line in lots):.1%} | '
                    f'{mean(training_cost(line) for line in lots) / 60:.0f} min |'
                )
    return '\n'.join(lines)


def render(found: Sequence[Mapping[str, Any]], name: str) -> str:
    """The lines of a record in Markdown, with a figure."""
    return render_methods(found, name, METHODS, DOCUMENT)


def render_methods(found: Sequence[Mapping[str, Any]], name: str, methods: Iterable[str], document: Path) -> str:
    """The lines of a record of these methods in Markdown, with a figure beside the document.

    Raises:
        MmsharpError: The record has lines of others.
    """
    methods, rows = list(methods), {}
    gone = sorted({line['method'] for line in found} - set(methods))
    if gone:
        raise MmsharpError(f'the record {name} has runs of {gone}, which are no methods now; remove their lines')
    several = len({line['budget'] for line in found}) > 1
    for budget in sorted({line['budget'] for line in found}, reverse=True):
        for method in methods:
            lots = [line for line in found if (line['budget'], line['method']) == (budget, method)]
            if lots:
                rows[f'{method}, {budget:.0%} of the MACs' if several else method] = lots
    draw_by_method(
        rows, [Panel('accuracy (%)', lambda line: line['clean'])], document.parent / 'figures' / f'{name}.svg'
    )
    about = setup([dict(line, sharpness=None) for line in found])
    return f'{about}\n\n{table(found, methods)}\n\n![every method](figures/{name}.svg)'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--methods', nargs='+', choices=[*METHODS, 'all'], default=list(DEFAULT), metavar='METHOD')
    parser.add_argument('--budgets', nargs='+', type=float, default=[0.3], help='share of MACs (default: 0.3)')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='(default: 0 1 2)')
    parser.add_argument('--scratch', action='store_true', help='start from random weights')
    parser.add_argument('--epochs', type=int, default=24, help='of each run (default: 24)')
    parser.add_argument('--train', type=int, default=25_000, help='training images (default: 25000)')
    parser.add_argument(
        '--test', type=int, default=TEST, help=f'test images (default: {TEST}; the sweep was judged on the others)'
    )
    add_mixed(parser)
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs' / 'psap_cifar10', help='where to work')
    parser.add_argument('--record', default='cpu', metavar='NAME', help='name of the record (default: cpu)')
    parser.add_argument('--render', action='store_true', help='only write the table from the record')
    args = parser.parse_args()
    args.methods = list(METHODS) if 'all' in args.methods else args.methods
    return args


def main() -> None:
    """Perform what is missing, and write the table."""
    args = parse_args()
    name = f'psap_cifar10_{args.record}{"_scratch" * args.scratch}'
    record = ROOT / 'benchmarks' / 'results' / f'{name}.jsonl'
    if not args.render:
        options = {**prepare(args.work_dir, args.train, args.test, VALIDATION, args.test), **length(args.epochs)}
        options.update(SCRATCH if args.scratch else {})
        data = f'{args.train} training images, from {"random" if args.scratch else "the published"} weights'
        same = dict(images=args.test, epochs=args.epochs)
        setting = Setting(BASE, options, 'accuracy/top1', data, severities=(0,), mixed=args.mixed, same=same)
        cells = runs_of(args.methods, args.budgets, args.seeds)
        run_all(setting, cells, args.work_dir / name, record, configure)
    publish(render(read_runs(record), name), name, DOCUMENT)


if __name__ == '__main__':
    run(main)
