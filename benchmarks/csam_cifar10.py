"""What a search of masks does to accuracy, corrupted accuracy and certified robustness: ResNet-20 on CIFAR-10.

    MMSHARP_DATA=... python benchmarks/csam_cifar10.py [--methods C-SAM HYDRA ...] [--budgets 0.5] [--seeds 0 1 2]
        [--transforms rotation:10 brightness:0.4] [--certified 100] [--augmented] [--mixed] [--record NAME] [--render]

Budgets are the share of weights that is left, of parameters for the two methods that remove channels. All methods
start from the published weights and have the same images and epochs; ``SAM, then prune`` has a training with SAM
before. Of each network the test images are classified clean and under 15 corruptions at 5 severities, and the same
``--certified`` of them are certified: PCA by CC-Cert, whose bound comes from the draws and can be too low, and beside
it what the exact bound of Clopper and Pearson certifies. Runs are lines of
benchmarks/results/csam_cifar10_NAME.jsonl (csam_cifar10_NAME_augmented.jsonl); a killed experiment goes on where it
was. ``--render`` only writes the table of docs/results.md from the record. ``--train 48000 --test 8000 --certified 500
--transforms rotation:10 brightness:0.4 contrast:0.4 blur:2 --budgets 0.5 0.3`` with every method is everything, for a
GPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from adasap_cifar10 import DOCUMENT, prepare
from experiments.arguments import add_arguments
from experiments.methods import MIXED
from experiments.performing import circumstances, last_checkpoint, scores, train
from experiments.publishing import publish
from experiments.record import read_runs, run_all
from experiments.runs import Run, Setting, grid
from experiments.tables import setup, spread, training_cost
from mmengine.config import Config

from mmsharp.apis import certify_robustness, slim
from mmsharp.command_line import run
from mmsharp.errors import MmsharpError

ROOT = Path(__file__).parents[1]
NETWORK = 'resnet20_cifar10'
SEARCHED = 'csam'
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    'magnitude': ('weight_magnitude', {}),
    'prune, then SAM': ('weight_magnitude_sam', {}),
    'SAM, then prune': ('sam_weight_magnitude', {}),
    'HYDRA': ('hydra', {}),
    'C-SAM': (SEARCHED, {}),
    'C-SAM, gradient': (SEARCHED, {'model.search.perturbation': dict(_delete_=True, type='Gradient')}),
    'C-SAM, no perturbation': (SEARCHED, {'model.search.perturbation': dict(_delete_=True, type='None')}),
    'C-SAM, no task loss': (SEARCHED, {'model.search.losses.task': None}),
    'magnitude, channels': ('magnitude', {}),
    'AdaSAP, channels': ('adasap', {}),
}
"""Folder of the config, and what an ablation changes in it."""
DEFAULT = ('magnitude', 'prune, then SAM', 'HYDRA', 'C-SAM')
FIRST = {'sam_weight_magnitude': 'sam'}
"""What is trained before, by the folder of the config that goes on from it."""
TRANSFORMS = ('rotation:10', 'brightness:0.4')
RATE = 1e-2
"""The eps of the table; 1,000 draws support rates from 5e-3 on."""


def config_file(folder: str, augmented: bool, channels: bool = False) -> Path:
    """The config of a method."""
    return ROOT / 'configs' / folder / f'{NETWORK}{"_params50" * channels}{"_aug" * augmented}.py'


def configure(setting: Setting, one: Run, augmented: bool = False) -> Config:
    """The config of a run, that of its folder with the data, the share that is left, the seed and the precision."""
    folder, changes = METHODS[one.method]
    config = Config.fromfile(config_file(folder, augmented, 'channels' in one.method))
    config.merge_from_dict({**setting.options, **changes})
    if 'search' in config.model:
        config.model.search.ratio = 1 - one.budget
    else:
        config.default_hooks.pruning.budget = dict(params=one.budget)
    return _for_all(config, setting, one)


def configure_first(setting: Setting, one: Run, augmented: bool = False) -> Config | None:
    """The config of what is trained before a run, if anything."""
    folder = FIRST.get(METHODS[one.method][0])
    if folder is None:
        return None
    config = Config.fromfile(config_file(folder, augmented))
    config.merge_from_dict(dict(setting.options))
    return _for_all(config, setting, one)


def _for_all(config: Config, setting: Setting, one: Run) -> Config:
    if setting.mixed:
        config.optim_wrapper.type = MIXED[config.optim_wrapper.get('type', 'OptimWrapper')]
    config.randomness = dict(seed=one.seed)
    config.default_hooks.checkpoint = dict(config.default_hooks.get('checkpoint', {}), interval=1, max_keep_ckpts=1)
    config.default_hooks.memory_format = dict(type='mmsharp.ChannelsLastHook')
    config.robustness.pop('hook', None)  # what it costs is no part of the training that is compared
    return config


class Performing:
    """Trains, slims, evaluates and certifies one run.

    Args:
        transforms: What is certified against.
        images: How many test images are certified.
        augmented: Whether the transforms are in the training data.
    """

    def __init__(self, transforms: Sequence[str], images: int, augmented: bool) -> None:
        self.transforms, self.images, self.augmented = list(transforms), images, augmented

    def configure(self, setting: Setting, one: Run) -> Config:
        """As :func:`configure`, with or without augmentation."""
        return configure(setting, one, self.augmented)

    def perform(self, config: Config, one: Run, work_dir: Path, setting: Setting) -> dict[str, Any]:
        """The line of the record."""
        folder = work_dir / one.folder
        spent = [0.0, 0.0]
        first = configure_first(setting, one, self.augmented)
        if first is not None:
            spent = list(train(first, folder / 'first'))
            config.load_from = str(last_checkpoint(first, folder / 'first'))
        seconds, cpu_seconds = train(config, folder)
        slim(folder / 'config.py', last_checkpoint(config, folder), folder / 'slim', repeats=1)
        found = scores(config, folder, setting, work_dir)
        certified = certify_robustness(
            folder / 'slim' / 'config.py',
            folder / 'slim' / 'slim.pth',
            folder / 'robustness',
            self.transforms,
            self.images,
        )
        return dict(
            asdict(one),
            **found,
            weights_kept=weights_kept(folder / 'slim' / 'slim.pth'),
            certified=[
                {name: value for name, value in scores_of.items() if name != 'bounds'}
                for scores_of in certified['transforms']
            ],
            search=config.model.get('search') and config.model.search.to_dict(),
            augmented=self.augmented,
            train_seconds=seconds + spent[0],
            train_cpu_seconds=cpu_seconds + spent[1],
            **circumstances(config, setting),
        )


def weights_kept(path: Path) -> float:
    """The share of the weights of convolutions and linear layers in a checkpoint that is not zero."""
    weights = [weight for weight in torch.load(path, weights_only=True)['state_dict'].values() if weight.dim() > 1]
    return sum(int(weight.count_nonzero()) for weight in weights) / sum(weight.numel() for weight in weights)


def at_rate(line: Mapping[str, Any], transform: str, rate: float = RATE) -> dict[str, Any]:
    """What is certified against a transform at a failure rate.

    Raises:
        MmsharpError: The run was not certified so.
    """
    for scores_of in line['certified']:
        for at in scores_of['eps']:
            if (scores_of['transform'], at['eps']) == (transform, rate):
                return dict(at, grid=scores_of['empirical_robust_accuracy'])
    raise MmsharpError(f'{line["method"]}, seed {line["seed"]}, was not certified for {transform} at {rate:g}')


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Mean and standard deviation over the seeds, per budget and method, as Markdown."""
    transforms = [scores_of['transform'] for scores_of in found[0]['certified']]
    head = ['kept', 'method', 'seeds', 'clean', 'mPC']
    for transform in transforms:
        head += [f'{transform}: PCA', 'exact', 'on the grid']
    head.append('cost of training')
    lines = ['| ' + ' | '.join(head) + ' |', '|---:|---|' + '---:|' * (len(head) - 2)]
    for budget in sorted({line['budget'] for line in found}, reverse=True):
        here = [line for line in found if line['budget'] == budget]
        plain = [training_cost(line) for line in here if line['method'] == 'magnitude']
        for method in METHODS:
            lots = [line for line in here if line['method'] == method]
            if not lots:
                continue
            row = [f'{budget:.0%}', method, str(len(lots)), spread(lots, 'clean'), spread(lots, 'mpc')]
            for transform in transforms:
                certified = [at_rate(line, transform) for line in lots]
                row += [
                    spread([dict(value=100 * at[name]) for at in certified], 'value', 1)
                    for name in ('pca', 'exact', 'grid')
                ]
            row.append(f'{mean(map(training_cost, lots)) / mean(plain):.2f}x' if plain else '')
            lines.append('| ' + ' | '.join(row) + ' |')
    return '\n'.join(lines)


def certified_how(line: Mapping[str, Any]) -> str:
    """On how many images and with how many draws a run was certified."""
    of = line['certified'][0]
    return (
        f'Certified: {of["images"]} of the images, {of["eps"][0]["draws"]} draws each, at eps {RATE:g}; exact with '
        f'{of["confidence"]:g} confidence; per cent.'
    )


def render(found: Sequence[Mapping[str, Any]], name: str) -> str:
    """The lines of a record in Markdown."""
    return f'{setup(found)} {certified_how(found[0])}\n\n{table(found)}'


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, DEFAULT, (0, 1, 2), ROOT / 'work_dirs' / 'csam_cifar10', METHODS, criteria=False, budget=0.5)
    parser.add_argument('--train', type=int, default=15_000, help='training images (default: 15000)')
    parser.add_argument('--test', type=int, default=2_000, help='test images (default: 2000)')
    parser.add_argument('--transforms', nargs='+', default=list(TRANSFORMS), help=f'(default: {" ".join(TRANSFORMS)})')
    parser.add_argument('--certified', type=int, default=100, help='test images that are certified (default: 100)')
    parser.add_argument('--augmented', action='store_true', help='train with the transforms as augmentation')
    return parser.parse_args()


def main() -> None:
    """Perform what is missing, and write the table."""
    args = parse_args()
    name = f'csam_cifar10_{args.record}{"_augmented" * args.augmented}'
    record = ROOT / 'benchmarks' / 'results' / f'{name}.jsonl'
    if not args.render:
        options = prepare(args.work_dir, args.train, args.test)
        data = f'{args.train} training images'
        setting = Setting(ROOT, options, 'accuracy/top1', data, mixed=args.mixed, tree=True)
        performing = Performing(args.transforms, args.certified, args.augmented)
        cells = grid(args.methods, ['Magnitude'], args.budgets, args.seeds)
        run_all(setting, cells, args.work_dir / name, record, performing.configure, performing.perform)
    publish(render(read_runs(record), name), name, DOCUMENT)


if __name__ == '__main__':
    run(main)
