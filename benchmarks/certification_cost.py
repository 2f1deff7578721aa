"""What certifying an image takes: processor time beside that of the model alone, and memory, by draws and chunks.

    python benchmarks/certification_cost.py [--images 1] [--record NAME]

ResNet-20 for CIFAR-10 with random weights certifies images of 32x32 pixels, without the grid. Beside it stands the
same number of images through the model alone, in chunks of the same size. Every row is a process of its own with one
thread; its memory is the largest resident size, less what it held before its first transformed image. ``--record``
writes benchmarks/results/certification_cost_NAME.json and its table into docs/certify.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mmsharp.command_line import run
from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.configs.config import load_config
from mmsharp.engine.costs.machine import machine, versions
from mmsharp.engine.model_access.class_probabilities import ClassProbabilities
from mmsharp.errors import MmsharpError
from mmsharp.files import replace_marked, write_json
from mmsharp.robustness import CertificationSettings, certify

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / 'docs' / 'certify.md'
CONFIG = ROOT / 'configs' / 'dense' / 'resnet20_cifar10.py'
TRANSFORMS = ('brightness:0.4', 'rotation:10', 'blur:2')
GROUPS, SEED = 10, 0
ROWS = ((1000, 250), (4000, 250), (1000, 50), (1000, 1000))
"""Draws of an image, and images at a time."""


def measure(draws: int, chunk: int, images: int) -> dict[str, Any]:
    """Seconds of the processor per image by transform and of the model alone, and MiB; in this process."""
    warnings.filterwarnings('ignore')
    torch.manual_seed(SEED)
    predict = ClassProbabilities(build_model(load_config(CONFIG)).eval())
    pictures = torch.rand(images, 3, 32, 32, generator=torch.Generator().manual_seed(SEED))
    settings = CertificationSettings(draws=draws // GROUPS, groups=GROUPS, grid=0, chunk=chunk, seed=SEED)
    predict(pictures)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = {}
    for transform in TRANSFORMS:
        began = time.process_time()
        certify(predict, pictures, [0] * images, transform, settings=settings)
        seconds[transform] = (time.process_time() - began) / images
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    for _ in range(images):
        for count in range(0, draws, chunk):
            predict(torch.rand(min(chunk, draws - count), 3, 32, 32))
    alone = (time.process_time() - began) / images
    return dict(draws=draws, chunk=chunk, seconds=seconds, model_seconds=alone, mebibytes=(after - before) / 1024)


def measure_apart(draws: int, chunk: int, images: int) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, '--row', str(draws), str(chunk), '--images', str(images)]
    finished = subprocess.run(
        command, env={**os.environ, 'OMP_NUM_THREADS': '1'}, capture_output=True, text=True, check=False
    )
    if finished.returncode:
        raise MmsharpError(f'a row could not be measured: {finished.stderr.strip().splitlines()[-1]}')
    return json.loads(finished.stdout.strip().splitlines()[-1])


def render(record: dict[str, Any]) -> str:
    """The record as a table in Markdown."""
    lines = [
        '| draws | images at a time | ' + ' | '.join(f'`{name}`' for name in TRANSFORMS) + ' | model alone | memory |',
        '|---:|---:|' + '---:|' * (len(TRANSFORMS) + 2),
    ]
    for row in record['rows']:
        cells = [f'{row["seconds"][name]:.2f} s' for name in TRANSFORMS]
        cells += [f'{row["model_seconds"]:.2f} s', f'{row["mebibytes"]:.0f} MiB']
        lines.append(f'| {row["draws"]} | {row["chunk"]} | ' + ' | '.join(cells) + ' |')
    lines += [
        '',
        f'Seconds of the processor per image of 32x32 pixels, ResNet-20, without the grid; memory beyond model and '
        f'libraries; {record["images"]} image in every row, one thread. Machine: {record["machine"]["processor"]}, no '
        f'GPU, torch {record["versions"]["torch"]}.',
    ]
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=1, help='certified in every row (default: 1)')
    parser.add_argument('--record', metavar='NAME', help='write the record and the table of the document')
    parser.add_argument('--row', type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.images < 1:
        parser.error('--images has to be at least 1')
    return args


def main() -> None:
    """Measure and print; write where asked."""
    args = parse_args()
    if args.row:
        torch.set_num_threads(1)
        print(json.dumps(measure(*args.row, args.images)))
        return
    record = dict(
        machine=machine(),
        versions=versions(('torch', 'torchvision', 'onedl-mmpretrain')),
        images=args.images,
        seed=SEED,
        rows=[measure_apart(*row, args.images) for row in tqdm(ROWS, unit='row')],
    )
    print(render(record))
    if args.record:
        write_json(ROOT / 'benchmarks' / 'results' / f'certification_cost_{args.record}.json', record)
        replace_marked(DOCUMENT, f'certification_cost_{args.record}', render(record))


if __name__ == '__main__':
    run(main)
