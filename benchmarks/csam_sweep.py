"""Which settings of C-SAM: short runs of ResNet-20 on CIFAR-10, judged on images held out.

    MMSHARP_DATA=... python benchmarks/csam_sweep.py [--methods ...] [--budgets 0.5] [--seeds 0] [--mixed]
        [--record NAME] [--render]

Every variant removes half of the weights of the published ResNet-20 within 8 epochs on 8,000 images, of which the
search has 3, and is tested on 2,000 images of the test set that benchmarks/csam_cifar10.py does not test on: clean, and
on 20 points of the range of each transform, where an image counts if it is right as it is and on all of them (empirical
robust accuracy, which needs no 1,000 draws an image). Defaults are chosen by it. A variant is named after what differs
from configs/csam/resnet20_cifar10.py: ``rate 100`` gives masks a hundred times the learning rate and not ten times,
``margin ratio 0.1`` weighs that term a tenth, ``eta 0.5`` bounds the slope of its ratio;
``no fine-tuning`` searches to the end. ``magnitude`` and ``HYDRA`` stand beside them. Runs are lines of
benchmarks/results/csam_sweep_NAME.jsonl; a killed sweep goes on where it was. Without ``--methods`` it runs a few; all
that there are: ``--methods ?``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from adasap_cifar10 import DOCUMENT, prepare
from csam_cifar10 import SEARCHED, TRANSFORMS, UNPRUNED, Method, cells_of, configure, perform, rows_of
from experiments.arguments import add_arguments
from experiments.figures import Panel, draw_by_method
from experiments.publishing import publish
from experiments.record import read_runs, run_all
from experiments.runs import Setting
from experiments.tables import setup, spread, training_cost
from psap_cifar10 import length

from mmsharp.command_line import run

ROOT = Path(__file__).parents[1]
TRAIN, TEST, HOLDOUT = 8_000, 2_000, 2_000
EPOCHS, SEARCH = 8, 3
RATE = 'optim_wrapper.paramwise_cfg.custom_keys.mask_search.lr_mult'
SEARCH_EPOCHS = 'default_hooks.pruning.search'
GRID_ALONE = dict(draws=1, groups=1)
"""Of the certification: one draw, as it wants one, for nothing is said of failure rates here."""
PERTURBATION, LOSSES = 'model.search.perturbation', 'model.search.losses'
PARTS: tuple[dict[str, dict[str, Any]], ...] = (
    {'': {}, 'rate 100': {RATE: 100.0}, 'rate 1000': {RATE: 1000.0}},
    {
        '': {},
        'rho 0.2': {f'{PERTURBATION}.rho': 0.2},
        'gradient': {PERTURBATION: dict(_delete_=True, type='Gradient')},
        'no perturbation': {PERTURBATION: dict(_delete_=True, type='None')},
    },
    {
        '': {},
        'margin ratio 0.1': {f'{LOSSES}.margin_ratio.weight': 0.1},
        'no margin ratio': {f'{LOSSES}.margin_ratio': None},
        'eta 0.5': {f'{LOSSES}.margin_ratio.eta': 0.5},
        'stability 10': {f'{LOSSES}.stability.weight': 10.0},
        'no task loss': {f'{LOSSES}.task': None},
    },
    {'': {SEARCH_EPOCHS: SEARCH}, 'no fine-tuning': {SEARCH_EPOCHS: EPOCHS}},
)
"""What a variant of C-SAM is put together from: in turn, the rate, the perturbation, the losses, the length."""


def variants(name: str, folder: str, parts: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Method]:
    """Every combination of the parts of a search, by its name.

    Example:
        >>> list(variants('HYDRA', 'hydra', PARTS[-1:]))
        ['HYDRA', 'HYDRA, no fine-tuning']
    """
    found = {}
    for chosen in product(*parts):
        changes = {key: value for part, of in zip(parts, chosen) for key, value in part[of].items()}
        found[', '.join(filter(None, (name, *chosen)))] = Method(folder, changes)
    return found


VARIANTS: dict[str, Method] = {
    UNPRUNED: Method('dense'),
    'magnitude': Method('weight_magnitude'),
    **variants('HYDRA', 'hydra', PARTS[-1:]),
    **variants('C-SAM', SEARCHED, PARTS),
}
DEFAULT = (UNPRUNED, 'magnitude', 'HYDRA', 'C-SAM', 'C-SAM, rate 100', 'C-SAM, rate 1000')


def on_the_grid(line: Mapping[str, Any], transform: str) -> float:
    """The share of images that are right as they are and on the grid over the range of a transform, in per cent."""
    found = {of['transform']: of['empirical_robust_accuracy'] for of in line['certified']}
    return 100 * float(found[transform])


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """A row per share of weights and variant, as Markdown."""
    columns = [f'grid of {transform}' for transform in TRANSFORMS]
    head = ['weights kept', 'variant', 'seeds', 'clean', *columns, 'as magnitude', 'cost of training']
    lines = [f'| {" | ".join(head)} |', f'|---:|---|{"---:|" * (len(head) - 2)}']
    for budget, method, lots in rows_of(found, VARIANTS):
        cells = [
            f'{budget:.0%}',
            method,
            str(len(lots)),
            spread(lots, 'clean'),
            *(spread([dict(value=on_the_grid(line, of)) for line in lots], 'value', 1) for of in TRANSFORMS),
            '' if method == UNPRUNED else f'{mean(line["masks_as_magnitude"] for line in lots):.1%}',
            '' if method == UNPRUNED else f'{mean(map(training_cost, lots)) / 60:.0f} min',
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def render(found: Sequence[Mapping[str, Any]], name: str) -> str:
    """The lines of a record in Markdown, with a figure."""
    several = len({line['budget'] for line in found if line['method'] != UNPRUNED}) > 1
    rows = {
        f'{method}, {budget:.0%} of the weights' if several and method != UNPRUNED else method: lots
        for budget, method, lots in rows_of(found, VARIANTS)
    }
    panels = [
        Panel('clean (%)', lambda line: line['clean']),
        *(Panel(f'grid of {of} (%)', lambda line, of=of: on_the_grid(line, of)) for of in TRANSFORMS),
    ]
    draw_by_method(rows, panels, DOCUMENT.parent / 'figures' / f'{name}.svg')
    return f'{setup(found)}\n\n{table(found)}\n\n![every variant](figures/{name}.svg)'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    work_dir = ROOT / 'work_dirs' / 'csam_sweep'
    add_arguments(parser, DEFAULT, (0,), work_dir, choices=VARIANTS, criteria=False, budget=0.5)
    return parser.parse_args()


def main() -> None:
    """Perform what is missing, and write the table."""
    args = parse_args()
    name = f'csam_sweep_{args.record}'
    record = ROOT / 'benchmarks' / 'results' / f'{name}.jsonl'
    if not args.render:
        options = {**prepare(args.work_dir, TRAIN, TEST, HOLDOUT), **length(EPOCHS)}
        test = 'test_dataloader.dataset.data_root'
        options[test] = str(Path(str(options[test])).with_name('holdout'))
        same = dict(images=HOLDOUT, certified_images=HOLDOUT, transforms=list(TRANSFORMS))
        data = f'{TRAIN} training images, held-out test images'
        setting = Setting(ROOT, options, 'accuracy/top1', data, severities=(0,), mixed=args.mixed, same=same)
        cells = cells_of(args.methods, args.budgets, args.seeds)
        run_all(
            setting,
            cells,
            args.work_dir / name,
            record,
            partial(configure, methods=VARIANTS),
            partial(perform, methods=VARIANTS, certification=GRID_ALONE),
        )
    publish(render(read_runs(record), name), name, DOCUMENT)


if __name__ == '__main__':
    run(main)
