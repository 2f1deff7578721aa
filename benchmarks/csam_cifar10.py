"""What a search of masks does to accuracy, corrupted accuracy and certified robustness: ResNet-20 on CIFAR-10.

    MMSHARP_DATA=... python benchmarks/csam_cifar10.py [--methods C-SAM HYDRA ...] [--budgets 0.5] [--seeds 0 1 2]
        [--transforms rotation:10 brightness:0.4] [--certified 100] [--mixed] [--record NAME] [--render]

Budgets are the share of weights that is left, of parameters for the methods that remove channels. All methods
start from the published weights, which are evaluated too (``unpruned``), and have the same images and epochs; ``SAM,
then prune`` has a training with SAM before. C-SAM's margin ratio sees images under transforms of the kinds that are
certified; every method exists once more, as ``..., augmented``, with these transforms as augmentation. Of each network
the test images are classified clean and under 15 corruptions at 5 severities, and the same ``--certified`` of them are
certified: PCA by CC-Cert, whose bound comes from the draws and can be too low, and beside it what the exact bound of
Clopper and Pearson certifies. Runs are lines of benchmarks/results/csam_cifar10_NAME.jsonl; a killed experiment goes on
where it was. ``--render`` only writes the tables and the figure of docs/results.md from the record. ``--train 48000
--test 8000 --certified 500 --transforms rotation:10 brightness:0.4 contrast:0.4 blur:2 --budgets 0.5 0.3 --methods all
--record gpu`` is everything, for a GPU.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from adasap_cifar10 import DOCUMENT, prepare
from experiments.arguments import add_arguments
from experiments.figures import Panel, draw_by_method
from experiments.performing import circumstances, commit, commit_of, last_checkpoint, scores, slim_network, train
from experiments.publishing import publish
from experiments.record import read_runs, run_all
from experiments.runs import Run, Setting, grid, settle
from experiments.tables import setup, spread, training_cost
from mmengine.config import Config

from mmsharp.apis import certify_robustness, slim
from mmsharp.command_line import run
from mmsharp.errors import MmsharpError
from mmsharp.files import write_text

ROOT = Path(__file__).parents[1]
NETWORK = 'resnet20_cifar10'
SEARCHED = 'csam'
TRANSFORMS = ('rotation:10', 'brightness:0.4')
RATE = 1e-2
"""The eps of the tables; 1,000 draws support rates from 5e-3 on."""


@dataclass(frozen=True)
class Method:
    """What is compared.

    Args:
        folder: That of its config.
        changes: What an ablation changes in it.
        channels: Whether channels go, to half of the parameters, and not weights.
        augmented: Whether the transforms are in the training data.
        first: The folder of what is trained before, if anything.
    """

    folder: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    channels: bool = False
    augmented: bool = False
    first: str | None = None

    def config(self, folder: str) -> Config:
        """The config of its network in a folder."""
        name = f'{NETWORK}{"_params50" * self.channels}{"_aug" * self.augmented}.py'
        return Config.fromfile(ROOT / 'configs' / folder / name)


def _ablation(**search: Any) -> Method:
    return Method(SEARCHED, {f'model.search.{name.replace("__", ".")}': value for name, value in search.items()})


UNPRUNED, BASELINE, OURS = 'unpruned', 'magnitude', 'C-SAM'
AUGMENTED = ', augmented'
PLAIN = {
    BASELINE: Method('weight_magnitude'),
    'prune, then SAM': Method('weight_magnitude_sam'),
    'SAM, then prune': Method('sam_weight_magnitude', first='sam'),
    'HYDRA': Method('hydra'),
    OURS: Method(SEARCHED),
    'C-SAM, gradient': _ablation(perturbation=dict(_delete_=True, type='Gradient')),
    'C-SAM, no perturbation': _ablation(perturbation=dict(_delete_=True, type='None')),
    'C-SAM, no task loss': _ablation(losses__task=None),
    'magnitude, channels': Method('magnitude', channels=True),
    'AdaSAP, channels': Method('adasap', channels=True),
    'C-SAM, channels': Method(SEARCHED, channels=True),
}
METHODS = {
    UNPRUNED: Method('dense'),
    **PLAIN,
    **{f'{name}{AUGMENTED}': replace(method, augmented=True) for name, method in PLAIN.items()},
}
DEFAULT = (UNPRUNED, BASELINE, f'{BASELINE}{AUGMENTED}', 'prune, then SAM', 'HYDRA', OURS)


def configure(setting: Setting, one: Run, methods: Mapping[str, Method] = METHODS) -> Config:
    """The config of a run, that of its folder with the data, the share that is left, the seed and the precision."""
    method = methods[one.method]
    config = method.config(method.folder)
    config.merge_from_dict({**setting.options, **method.changes})
    if 'search' in config.model and method.channels:
        config.model.search.budget = dict(params=one.budget)
    elif 'search' in config.model:
        config.model.search.ratio = 1 - one.budget
    elif 'pruning' in config.default_hooks:
        config.default_hooks.pruning.budget = dict(params=one.budget)
    return settle(config, setting, one)


def configure_first(setting: Setting, one: Run, methods: Mapping[str, Method] = METHODS) -> Config | None:
    """The config of what is trained before a run, if anything."""
    method = methods[one.method]
    if method.first is None:
        return None
    config = method.config(method.first)
    config.merge_from_dict(dict(setting.options))
    return settle(config, setting, one)


def cells_of(methods: Sequence[str], budgets: Sequence[float], seeds: Sequence[int]) -> list[Run]:
    """All combinations, seed by seed; the unpruned network is one.

    Example:
        >>> [(run.method, run.budget, run.seed) for run in cells_of(['unpruned', 'HYDRA'], [0.5], [0, 1])]
        [('unpruned', 1.0, 0), ('HYDRA', 0.5, 0), ('HYDRA', 0.5, 1)]
    """
    dense = [Run(UNPRUNED, 'Magnitude', 1.0, 0)] if UNPRUNED in methods else []
    return dense + grid([name for name in methods if name != UNPRUNED], ['Magnitude'], budgets, seeds)


def perform(
    config: Config,
    one: Run,
    work_dir: Path,
    setting: Setting,
    methods: Mapping[str, Method] = METHODS,
    certification: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train, slim, evaluate and certify one run.

    Args:
        config: Its config.
        one: The run.
        work_dir: Where its folder goes.
        setting: What all runs have in common.
        methods: What is compared, by name.
        certification: Settings of the certification.

    Returns:
        The line of the record.
    """
    folder = work_dir / one.folder
    trained = _train(config, one, folder, configure_first(setting, one, methods))
    start = Path(config.load_from)  # what was pruned: the published weights, or what SAM made of them
    network = slim_network(folder) if one.method != UNPRUNED else (folder / 'config.py', start)
    images, transforms = setting.same['certified_images'], setting.same['transforms']
    settings = {name: value for name, value in circumstances(config, setting).items() if name not in trained}
    return dict(
        {**asdict(one), **settings, **scores(network, config, folder, setting, work_dir)},
        commit=commit() if one.method == UNPRUNED else commit_of(folder),
        weights_kept=weights_kept(network[1]),
        masks_as_magnitude=None if methods[one.method].channels else masks_as_magnitude(network[1], start),
        certified=[
            {name: value for name, value in found.items() if name != 'bounds'}
            for found in certify_robustness(*network, folder / 'robustness', transforms, images, certification)[
                'transforms'
            ]
        ],
        **trained,
    )


def _train(config: Config, one: Run, folder: Path, first: Config | None) -> dict[str, Any]:
    """Train and slim, with what comes before; the seconds and epochs of both."""
    if one.method == UNPRUNED:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / 'config.py', config.pretty_text)
        return dict(train_seconds=0.0, train_cpu_seconds=0.0, epochs=0)
    epochs, spent = config.train_cfg.max_epochs, (0.0, 0.0)
    if first is not None:
        spent = train(first, folder / 'first')
        epochs += first.train_cfg.max_epochs
        config.load_from = str(last_checkpoint(first, folder / 'first'))
    seconds, cpu_seconds = train(config, folder)
    slim(folder / 'config.py', last_checkpoint(config, folder), folder / 'slim', repeats=1)
    return dict(train_seconds=seconds + spent[0], train_cpu_seconds=cpu_seconds + spent[1], epochs=epochs)


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    """The weights of convolutions and linear layers in a checkpoint."""
    state = torch.load(path, map_location='cpu', weights_only=True)
    return {name: weight for name, weight in state.get('state_dict', state).items() if weight.dim() > 1}


def weights_kept(path: Path) -> float:
    """The share of the weights of convolutions and linear layers in a checkpoint that is not zero."""
    weights = weights_of(path).values()
    return sum(int(weight.count_nonzero()) for weight in weights) / sum(weight.numel() for weight in weights)


def masks_as_magnitude(path: Path, start: Path) -> float:
    """Of the weights that are left, the share that is left too where as many of each layer's largest are kept."""
    same, left, before = 0, 0, weights_of(start)
    for name, weight in weights_of(path).items():
        kept = weight.flatten() != 0
        largest = before[name].flatten().abs().argsort(descending=True)[: int(kept.sum())]
        same, left = same + int(kept[largest].sum()), left + int(kept.sum())
    return same / left


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


def mean_pca(line: Mapping[str, Any]) -> float:
    """Over the transforms, in per cent."""
    return 100 * mean(at_rate(line, scores_of['transform'])['pca'] for scores_of in line['certified'])


def rows_of(
    found: Sequence[Mapping[str, Any]], methods: Iterable[str] = tuple(METHODS)
) -> list[tuple[float, str, list[Mapping[str, Any]]]]:
    """Budget, method and runs of every row, the unpruned network first."""
    budgets = sorted({line['budget'] for line in found}, reverse=True)
    methods = list(methods)
    rows = [
        (budget, method, [line for line in found if (line['budget'], line['method']) == (budget, method)])
        for budget in budgets
        for method in methods
    ]
    return [row for row in rows if row[2]]


def is_ours(method: str) -> bool:
    """Whether a method is C-SAM or an ablation of it, and no baseline."""
    return method.startswith(OURS)


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Mean and standard deviation over the seeds, per budget and method, as Markdown."""
    lines = [
        '| weights kept | method | seeds | clean | beside unpruned | mPC | mean PCA | as magnitude | training |',
        '|---:|---|---:|---:|---:|---:|---:|---:|---:|',
    ]
    dense = [line['clean'] for line in found if line['method'] == UNPRUNED]
    for budget, method, lots in rows_of(found):
        plain = [training_cost(line) for line in found if (line['method'], line['budget']) == (BASELINE, budget)]
        behind = f'{mean(line["clean"] for line in lots) - dense[0]:+.2f}' if dense and method != UNPRUNED else ''
        same = [line['masks_as_magnitude'] for line in lots]
        cells = [
            f'{mean(line["weights_kept"] for line in lots) * _share(method, budget):.0%}',
            method,
            str(len(lots)),
            spread(lots, 'clean'),
            behind,
            spread(lots, 'mpc'),
            spread([dict(value=mean_pca(line)) for line in lots], 'value', 1),
            '' if method == UNPRUNED or None in same else f'{mean(same):.0%}',
            f'{mean(map(training_cost, lots)) / mean(plain):.2f}x' if plain else '',
        ]
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def _share(method: str, budget: float) -> float:
    """Of the parameters that channels leave; their network has no zeros."""
    return budget if METHODS[method].channels else 1.0


def table_by_transform(found: Sequence[Mapping[str, Any]]) -> str:
    """What is certified against each transform, in per cent, and how much more C-SAM has than the best baseline."""
    lines = [
        '| transform | weights kept | method | PCA | over the best baseline | exact | on the grid |',
        '|---|---:|---|---:|---:|---:|---:|',
    ]
    for transform in dict.fromkeys(scores_of['transform'] for line in found for scores_of in line['certified']):
        for budget, method, lots in rows_of(found):
            certified = [at_rate(line, transform) for line in lots]
            best = max(
                (_pca(runs, transform) for at, name, runs in rows_of(found) if at == budget and not is_ours(name)),
                default=0.0,
            )
            ratio = f'{_pca(lots, transform) / best - 1:+.0%}' if is_ours(method) and best else ''
            parts = [
                spread([dict(value=100 * at[name]) for at in certified], 'value', 1)
                for name in ('pca', 'exact', 'grid')
            ]
            lines.append(f'| {transform} | {budget:.0%} | {method} | {parts[0]} | {ratio} | {parts[1]} | {parts[2]} |')
    return '\n'.join(lines)


def _pca(lots: Sequence[Mapping[str, Any]], transform: str) -> float:
    return mean(at_rate(line, transform)['pca'] for line in lots)


def certified_how(line: Mapping[str, Any]) -> str:
    """On how many images and with how many draws a run was certified."""
    of = line['certified'][0]
    return (
        f'Certified: {of["images"]} of the images, {of["eps"][0]["draws"]} draws each, at eps {RATE:g}; exact with '
        f'{of["confidence"]:g} confidence; per cent. As magnitude: the share of the weights left that magnitude would '
        'leave too.'
    )


def render(found: Sequence[Mapping[str, Any]], name: str) -> str:
    """The lines of a record in Markdown, with a figure."""
    transforms = [scores_of['transform'] for scores_of in found[0]['certified']]
    budget = max((line['budget'] for line in found if line['method'] != UNPRUNED), default=1.0)
    shown = [(method, lots) for at, method, lots in rows_of(found) if at in (1.0, budget)]
    panels = [
        Panel('clean (%)', lambda line: line['clean']),
        Panel('mPC (%)', lambda line: line['mpc']),
        *(
            Panel(f'PCA, {transform} (%)', lambda line, of=transform: 100 * at_rate(line, of)['pca'])
            for transform in transforms
        ),
    ]
    draw_by_method(dict(shown), panels, DOCUMENT.parent / 'figures' / f'{name}.svg')
    figure = f'![every method, {budget:.0%} of the weights](figures/{name}.svg)'
    head = f'{setup(found)} {certified_how(found[0])}'
    return '\n\n'.join([head, table(found), table_by_transform(found), figure])


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    work_dir = ROOT / 'work_dirs' / 'csam_cifar10'
    add_arguments(parser, DEFAULT, (0, 1, 2), work_dir, [*METHODS, 'all'], criteria=False, budget=0.5)
    parser.add_argument('--train', type=int, default=8_000, help='training images (default: 8000)')
    parser.add_argument('--test', type=int, default=2_000, help='test images (default: 2000)')
    parser.add_argument('--transforms', nargs='+', default=list(TRANSFORMS), help=f'(default: {" ".join(TRANSFORMS)})')
    parser.add_argument('--certified', type=int, default=100, help='test images that are certified (default: 100)')
    args = parser.parse_args()
    args.methods = list(METHODS) if 'all' in args.methods else args.methods
    return args


def main() -> None:
    """Perform what is missing, and write the tables."""
    args = parse_args()
    name = f'csam_cifar10_{args.record}'
    record = ROOT / 'benchmarks' / 'results' / f'{name}.jsonl'
    if not args.render:
        same = dict(images=args.test, certified_images=args.certified, transforms=args.transforms)
        setting = Setting(
            ROOT,
            prepare(args.work_dir, args.train, args.test),
            'accuracy/top1',
            f'{args.train} training images',
            mixed=args.mixed,
            tree=True,
            same=same,
        )
        cells = cells_of(args.methods, args.budgets, args.seeds)
        run_all(setting, cells, args.work_dir / name, record, configure, perform)
    publish(render(read_runs(record), name), name, DOCUMENT)


if __name__ == '__main__':
    run(main)
