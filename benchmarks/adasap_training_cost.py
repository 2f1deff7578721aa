"""What a whole training with AdaSAP costs, slimming included, against dense training with plain SGD.

    python benchmarks/adasap_training_cost.py [--iterations 120] [--repeats 3] [--budget 0.4] [--record NAME]

Each repeat trains one ResNet-18 for 32x32 pixels four times in turn, for the same iterations: densely with SGD, with
AdaSAP that makes the network small where pruning ends (phases of the hook's default lengths, and once more with pruning
in a fifth of the training), and with AdaSAP that keeps it masked to the end. Random images: time does not depend on
what they show. The ratio is the median over the repeats of processor seconds without a GPU, seconds of the clock with
one; finding the groups and slimming are in it, as they are in a user's training, where more iterations make less of
them. ``--record`` writes benchmarks/results/adasap_training_cost_NAME.json and its table into
docs/train-sharpness-aware.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from sam_cost import classification_batch, packaged
from torch.utils.data import Dataset
from tqdm import tqdm

from mmsharp.command_line import run
from mmsharp.engine.costs.machine import machine, versions
from mmsharp.files import replace_marked, write_json

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / 'docs' / 'train-sharpness-aware.md'
PACKAGES = ('torch', 'onedl-mmengine', 'onedl-mmpretrain', 'mmsharp')
TARGET = 1.3
DENSE = 'dense, SGD'
VARIANTS: dict[str, dict[str, Any]] = {
    'AdaSAP, slim where pruning ends': {},
    'AdaSAP, slim where pruning ends, `pruning=0.2`': dict(pruning=0.2),
    'AdaSAP, masked to the end': dict(slim=False),
}
"""What of the hook's arguments is not the default."""


@DATASETS.register_module()
class RandomImages(Dataset[dict[str, Any]]):
    """As many images as a training takes, which are few and come again."""

    def __init__(self, length: int) -> None:
        batch = classification_batch(64, 32, 10)
        self.samples = [dict(inputs=image, data_samples=label) for image, label in zip(*batch.values())]
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.samples[index % len(self.samples)]


def configure(variant: str, iterations: int, batch: int, budget: float, folder: str) -> Config:
    """A packaged classifier's config for a variant."""
    config = packaged('mmpretrain', 'resnet/resnet18_8xb16_cifar10.py')
    for section in ('val', 'test'):
        for part in ('dataloader', 'cfg', 'evaluator'):
            config.pop(f'{section}_{part}', None)
    config.work_dir = folder
    config.train_cfg = dict(by_epoch=False, max_iters=iterations)
    config.param_scheduler = []
    config.train_dataloader = dict(
        batch_size=batch,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
        dataset=dict(type='mmengine.RandomImages', length=batch * iterations),
    )
    config.default_hooks.checkpoint = None
    config.default_hooks.logger.interval = iterations
    config.log_level = 'ERROR'
    config.visualizer = dict(type='Visualizer', vis_backends=[])
    if variant != DENSE:
        config.optim_wrapper.merge(dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP')))
        config.default_hooks.pruning = dict(
            type='mmsharp.AdaSAPHook',
            budget=dict(macs=budget),
            interval=max(1, iterations // 30),
            **VARIANTS[variant],
        )
    return config


def seconds(variant: str, iterations: int, batch: int, budget: float) -> float:
    """Train one variant; seconds of the processors without a GPU, of the clock with one."""
    with tempfile.TemporaryDirectory() as folder:
        config = configure(variant, iterations, batch, budget, folder)
        torch.manual_seed(0)
        runner = Runner.from_cfg(Config(dict(config, experiment_name=f'{variant}-{time.monotonic_ns()}')))
        on_gpu = torch.cuda.is_available()
        clock = time.perf_counter if on_gpu else time.process_time
        began = clock()
        runner.train()
        if on_gpu:
            torch.cuda.synchronize()
        return clock() - began


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All repeats, the variants in turn."""
    taken: dict[str, list[float]] = {variant: [] for variant in (DENSE, *VARIANTS)}
    with tqdm(total=args.repeats * len(taken), unit='training') as progress:
        for _ in range(args.repeats):
            for variant, values in taken.items():
                values.append(seconds(variant, args.iterations, args.batch, args.budget))
                progress.update()
    ratios = {
        variant: median(value / dense for value, dense in zip(values, taken[DENSE]))
        for variant, values in taken.items()
    }
    return dict(
        machine=machine(),
        versions=versions(PACKAGES),
        settings=dict(iterations=args.iterations, batch=args.batch, repeats=args.repeats, macs=args.budget),
        seconds=taken,
        ratios=ratios,
        target=TARGET,
    )


def render(record: dict[str, Any]) -> str:
    """The record as a table."""
    settings, place = record['settings'], record['machine']
    lines = ['| training | cost, times dense SGD | aim |', '|---|---:|---:|']
    for variant, ratio in record['ratios'].items():
        slims = variant in VARIANTS and VARIANTS[variant].get('slim', True)
        aim = f'{record["target"]}x' if slims else ''
        lines.append(f'| {variant} | {ratio:.2f}x | {aim} |')
    lines += [
        '',
        f'{place["gpu"] or place["processor"]}, {place["cores"]} cores, torch {record["versions"]["torch"]}; '
        f'ResNet-18, batch {settings["batch"]}, {settings["iterations"]} iterations, '
        f'{settings["macs"]:g} of the MACs are left, median of {settings["repeats"]}.',
    ]
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--iterations', type=int, default=120, help='per training (default: 120)')
    parser.add_argument('--batch', type=int, default=16, help='images per iteration (default: 16)')
    parser.add_argument('--repeats', type=int, default=3, help='(default: 3)')
    parser.add_argument('--budget', type=float, default=0.4, help='share of the MACs (default: 0.4)')
    parser.add_argument('--record', metavar='NAME', help='write the record and the table')
    return parser.parse_args()


def main() -> None:
    """Measure, print, and keep on request."""
    args = parse_args()
    record = measure(args)
    print(render(record))
    if args.record:
        path = ROOT / 'benchmarks' / 'results' / f'adasap_training_cost_{args.record}.json'
        write_json(path, record)
        replace_marked(DOCUMENT, path.stem, render(record))


if __name__ == '__main__':
    run(main)
