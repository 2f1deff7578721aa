"""Which settings of AdaSAP: short runs of ResNet-20 on CIFAR-10, judged on images held out.

    MMSHARP_DATA=... python benchmarks/adasap_sweep.py [--methods ...] [--condition rate] [--record NAME] [--render]

Every variant prunes the published ResNet-20 to 0.40 of its parameters within 8 epochs on 15,000 images, and is
evaluated clean and under 15 corruptions at severity 3 of CIFAR-10-C's constants, on 2,000 images of the test set that
no other experiment with AdaSAP tests on: the published weights have seen all training images, and remember them.
Defaults are chosen by it. ``--condition`` changes what is equal on both sides, such as the learning rate, and asks
whether AdaSAP's defaults win there. Runs are lines of benchmarks/results/adasap_sweep_NAME.jsonl
(adasap_sweep_NAME_CONDITION.jsonl); a killed sweep goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adasap_cifar10 import BASE, DOCUMENT, prepare
from experiments import tables
from experiments.arguments import add_arguments
from experiments.methods import LONGER, METHODS
from experiments.publishing import publish
from experiments.record import read_runs, run_all
from experiments.runs import Setting, grid

from mmsharp.command_line import run

ROOT = Path(__file__).parents[1]
EPOCHS = 8
SHORTER = {
    'train_cfg.max_epochs': EPOCHS,
    'param_scheduler.0.T_max': EPOCHS,
    'param_scheduler.0.end': EPOCHS,
    'default_hooks.pruning.warmup': 1,
    'default_hooks.pruning.pruning': 2,
}


def adasap(fine_tuning: dict[str, Any] | None = None, **ascent: Any) -> dict[str, Any]:
    """A variant of AdaSAP: its ascent's arguments and the ascent of its last phase."""
    changes: dict[str, Any] = {**METHODS['AdaSAP'], 'optim_wrapper.ascent': dict(type='AdaSAP', **ascent)}
    if fine_tuning is not None:
        changes['default_hooks.pruning.fine_tuning'] = fine_tuning
    return changes


def asam(rho: float) -> dict[str, Any]:
    """ASAM as the ascent of the last phase."""
    return dict(type='ASAM', rho=rho)


def sam(rho: float) -> dict[str, Any]:
    """SAM as the ascent of the last phase."""
    return dict(type='SAM', rho=rho)


def uniform(rho: float) -> dict[str, Any]:
    """One relative radius for all channels as the ascent of the last phase."""
    return dict(type='AdaSAP', rho_min=rho, rho_max=rho)


VARIANTS: dict[str, dict[str, Any]] = {
    'SGD': METHODS['SGD'],
    LONGER: METHODS[LONGER],
    'absolute 0.01..0.2, ASAM 0.5': adasap(asam(0.5), radius='absolute', rho_min=0.01, rho_max=0.2),
    'relative 0.002..0.02, ASAM 0.5': adasap(asam(0.5), rho_min=0.002, rho_max=0.02),
    'relative 0.005..0.05, ASAM 0.5': adasap(asam(0.5), rho_min=0.005, rho_max=0.05),
    'relative 0.01..0.1, ASAM 0.5': adasap(asam(0.5), rho_min=0.01, rho_max=0.1),
    'relative 0.005..0.05, ASAM 1': adasap(asam(1.0), rho_min=0.005, rho_max=0.05),
    'relative 0.005..0.05, ASAM 2': adasap(asam(2.0), rho_min=0.005, rho_max=0.05),
    'relative 0.005..0.05, SAM 0.05': adasap(sam(0.05), rho_min=0.005, rho_max=0.05),
    'relative 0.005..0.05, SAM 0.1': adasap(sam(0.1), rho_min=0.005, rho_max=0.05),
    'relative 0.005..0.05, uniform 0.005': adasap(uniform(0.005), rho_min=0.005, rho_max=0.05),
    'relative 0.005..0.05, uniform 0.01': adasap(uniform(0.01), rho_min=0.005, rho_max=0.05),
    'relative 0.005..0.05, uniform 0.02': adasap(uniform(0.02), rho_min=0.005, rho_max=0.05),
    'relative 0.005..0.05, uniform 0.05': adasap(uniform(0.05), rho_min=0.005, rho_max=0.05),
    'relative 0.005..0.05 of the layer, ASAM 0.5': adasap(asam(0.5), norm_scope='layer'),
    'relative 0.005..0.05, T = 1, ASAM 0.5': adasap(asam(0.5), form='sam'),
    'relative 0.005..0.05 by Taylor, ASAM 0.5': adasap(asam(0.5), score=dict(type='mmsharp.Taylor')),
    'relative 0.02 for all, ASAM 0.5': adasap(asam(0.5), rho_min=0.02, rho_max=0.02),
    'SAM': METHODS['SAM'],
    'ASAM': METHODS['ASAM'],
    'relative 0.01..0.1, ASAM 1, along the momentum': METHODS['AdaSAP along the momentum'],
    'relative 0.005..0.05, ASAM 0.5, LookSAM(5)': {
        **adasap(asam(0.5), rho_min=0.005, rho_max=0.05),
        'optim_wrapper.policy': dict(type='LookSAM', interval=5),
    },
    'AdaSAP, every 5th step': METHODS['AdaSAP, every 5th step'],
    'AdaSAP, half of the layers': METHODS['AdaSAP, half of the layers'],
}
DEFAULTS = 'relative 0.005..0.05, ASAM 0.5'
COMPARED = ('SGD', LONGER, DEFAULTS)
"""What runs under a condition: AdaSAP by default, beside plain training with as many epochs and as much compute."""
RAND_AUGMENT = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='RandAugment', policies='timm_increasing', num_policies=2, magnitude_level=5, magnitude_std=0.5),
    dict(type='PackInputs'),
]
CONDITIONS: dict[str, dict[str, Any]] = {
    'rate': {'optim_wrapper.optimizer.lr': 0.05, 'param_scheduler.0.eta_min': 0.0005},
    'decay': {'optim_wrapper.optimizer.weight_decay': 5e-4},
    'slow': {'default_hooks.pruning.pruning': 4},
    'augmented': {'train_dataloader.dataset.pipeline': RAND_AUGMENT},
}
"""What is not as in the other runs, for all methods alike."""


def render(found: Sequence[Mapping[str, Any]], name: str) -> str:
    """The lines of a record in Markdown, with figures."""
    return tables.render(found, name, DOCUMENT, VARIANTS, 'held-out test images')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, (), (0,), ROOT / 'work_dirs' / 'adasap_sweep', choices=VARIANTS)
    parser.add_argument('--condition', choices=CONDITIONS, help='change this for all methods (default: nothing)')
    args = parser.parse_args()
    args.methods = args.methods or (COMPARED if args.condition else VARIANTS)
    return args


def main() -> None:
    """Perform what is missing, and write the table."""
    args = parse_args()
    name = '_'.join(filter(None, ['adasap_sweep', args.record, args.condition]))
    record = ROOT / 'benchmarks' / 'results' / f'{name}.jsonl'
    if not args.render:
        options = {**prepare(args.work_dir, 15_000, 2_000), **SHORTER, **CONDITIONS.get(args.condition, {})}
        test = 'test_dataloader.dataset.data_root'
        options[test] = str(Path(options[test]).with_name('holdout'))
        setting = Setting(
            BASE,
            options,
            'accuracy/top1',
            '15000 training images',
            VARIANTS,
            severities=(0, 3),
            mixed=args.mixed,
            tree=True,
        )
        run_all(setting, grid(args.methods, args.criteria, args.budgets, args.seeds), args.work_dir / name, record)
    publish(render(read_runs(record), record.stem), record.stem, DOCUMENT)


if __name__ == '__main__':
    run(main)
