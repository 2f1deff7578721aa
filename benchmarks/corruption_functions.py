"""How long corrupting an image takes: our pixel functions and those of imagecorruptions, in turns on one core.

    python benchmarks/corruption_functions.py [--rounds 5] [--size 500 375] [--record NAME]

A photograph is corrupted by every corruption at severities 1 to 5, first by the one, then by the other, round by round
and cell by cell, so that a change of the machine's mood meets both alike; every round has other random numbers. Figures
are processor time, which counts every thread and no waiting for a core that others use: medians over the rounds, and
sums of these over the five severities. A first round, which imports and compiles, is not counted. ``--record`` writes
benchmarks/results/corruption_functions_NAME.json and its table into docs/corruptions.md.
"""

import os

os.environ['OMP_NUM_THREADS'] = '1'

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from mmsharp.command_line import run
from mmsharp.engine.costs.machine import machine, versions
from mmsharp.files import replace_marked, write_json
from mmsharp.robustness import BACKENDS, BENCHMARK, HOLDOUT, NAMES, SEVERITIES, corrupt

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / 'docs' / 'corruptions.md'
PACKAGES = (
    *('imagecorruptions-imaug', 'numpy', 'numba', 'opencv-python-headless', 'scipy', 'scikit-image', 'pillow'),
    'scikit-learn',
)
PHOTOGRAPH = 'china.jpg'
SEED = 0


def photograph(width: int, height: int) -> np.ndarray:
    """One of scikit-learn's pictures, RGB."""
    from sklearn.datasets import load_sample_image

    return cv2.resize(load_sample_image(PHOTOGRAPH), (width, height), interpolation=cv2.INTER_AREA)


def measure(image: np.ndarray, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Median milliseconds by corruption and backend, one per severity, both with the constants of ImageNet-C."""
    cells = [(name, severity) for name in NAMES for severity in SEVERITIES]
    taken: dict[tuple[str, int, str], list[float]] = {(*cell, backend): [] for cell in cells for backend in BACKENDS}
    for number in tqdm(range(rounds + 1), unit='round'):
        for name, severity in cells:
            for backend in BACKENDS:
                began = time.process_time()
                corrupt(image, name, severity, SEED + number, backend, 'imagenet')
                if number:
                    taken[name, severity, backend].append(time.process_time() - began)
    return {
        name: {
            backend: [1000 * median(taken[name, severity, backend]) for severity in SEVERITIES] for backend in BACKENDS
        }
        for name in NAMES
    }


def render(record: dict[str, Any]) -> str:
    """The record as a table in Markdown."""
    functions = record['functions']

    def row(title: str, names: tuple[str, ...]) -> str:
        theirs, ours = (
            sum(sum(functions[name][backend]) for name in names) for backend in ('imagecorruptions', 'mmsharp')
        )
        return f'| {title} | {theirs:.0f} ms | {ours:.1f} ms | {theirs / ours:.1f}x |'

    lines = ['| corruption, severities 1 to 5 | imagecorruptions | mmsharp | faster |', '|---|---:|---:|---:|']
    lines += [row(f'`{name}`', (name,)) for name in BENCHMARK]
    lines.append(row('**benchmark, 15 x 5**', BENCHMARK))
    lines += [row(f'`{name}`', (name,)) for name in HOLDOUT]
    lines.append(row('**holdout, 4 x 5**', HOLDOUT))
    width, height = record['size']
    installed = record['versions']
    lines += [
        '',
        f'Machine: {record["machine"]["processor"]}, one core, Python {record["machine"]["python"]}, numba '
        f'{installed["numba"]}, OpenCV {installed["opencv-python-headless"]}, imagecorruptions-imaug '
        f'{installed["imagecorruptions-imaug"]}; one photograph of {width}x{height} pixels, processor '
        f'time, medians of {record["rounds"]} rounds in turns, summed over the severities.',
    ]
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5, help='timed rounds (default: 5)')
    parser.add_argument(
        '--size', nargs=2, type=int, default=[500, 375], metavar=('WIDTH', 'HEIGHT'), help='default: 500 375'
    )
    parser.add_argument('--record', metavar='NAME', help='write the record and the table of the document')
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error('--rounds has to be at least 1')
    if min(args.size) < 32:
        parser.error('--size has to be at least 32 32')
    return args


def main() -> None:
    """Measure and print; write where asked."""
    args = parse_args()
    cv2.setNumThreads(1)
    record = dict(
        machine=machine(),
        versions=versions(PACKAGES),
        photograph=PHOTOGRAPH,
        size=args.size,
        rounds=args.rounds,
        seed=SEED,
        functions=measure(photograph(*args.size), args.rounds),
    )
    print(render(record))
    if args.record:
        write_json(ROOT / 'benchmarks' / 'results' / f'corruption_functions_{args.record}.json', record)
        replace_marked(DOCUMENT, f'corruption_functions_{args.record}', render(record))


if __name__ == '__main__':
    run(main)
