"""What a robustness evaluation takes: wall time over that of clean inference, beside one test run per cell, and memory.

    python benchmarks/robust_eval.py [--models retinanet_r50 rtmdet_tiny] [--images 8 40] [--workers 2] [--record NAME]

The whole benchmark, 15 corruptions at 5 severities, is evaluated on photographs of 500x375 pixels; clean passes of the
same loop, over the same images, stand between the corruptions, so that a change of the machine's mood meets both. The
ratio is

    (seconds of the 75 corrupted cells) / (75 x median seconds of a clean pass),

and would be 1 if corrupting cost nothing. Beside it stands the plain way, one run of tools/test.py per cell with the
corruption written into the config: two cells are timed as whole processes, and the rest is taken to take as long.
Memory is what the process and its workers hold after each cell. Weights are random: they do not decide how long
anything takes, but random detectors find much, so thresholds are as in the packaged configs. ``--record`` writes
benchmarks/results/robust_eval_NAME.json and its table into docs/robustness.md.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import torch
from mmengine.config import Config
from tqdm import tqdm

from mmsharp.command_line import run
from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.costs.machine import machine, versions
from mmsharp.engine.robustness.evaluation import RobustEvaluation, RobustSettings
from mmsharp.errors import MmsharpError
from mmsharp.files import replace_marked, write_json
from mmsharp.robustness import BENCHMARK, SEVERITIES, Cell, Grid

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / 'docs' / 'robustness.md'
MODELS: dict[str, tuple[str, str, tuple[int, int], float]] = {
    'retinanet_r50': ('RetinaNet-R50', 'retinanet/retinanet_r50_fpn_1x_coco.py', (512, 384), 1.15),
    'rtmdet_tiny': ('RTMDet-tiny', 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py', (320, 320), 1.6),
}
"""Title, packaged config, input size, and the most that the ratio should be."""
SIZE = (500, 375)
PLAIN_CELLS = (('gaussian_noise', 3), ('fog', 3))
PHOTOGRAPHS = ('china.jpg', 'flower.jpg')


def write_images(folder: Path, count: int) -> Path:
    """Crops of scikit-learn's photographs, in the COCO layout, with a box each; the path of the annotations."""
    from sklearn.datasets import load_sample_image

    images, annotations = [], []
    for number in range(count):
        whole = load_sample_image(PHOTOGRAPHS[number % 2])
        left, top = number * 7 % (whole.shape[1] - SIZE[0]), number * 5 % (whole.shape[0] - SIZE[1])
        name = f'{number:04d}.jpg'
        cv2.imwrite(str(folder / name), whole[top : top + SIZE[1], left : left + SIZE[0], ::-1])
        images.append(dict(id=number, file_name=name, width=SIZE[0], height=SIZE[1]))
        box = [100, 100, 200, 150]
        annotations.append(dict(id=number + 1, image_id=number, category_id=1, bbox=box, area=30000, iscrowd=0))
    path = folder / 'annotations.json'
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=[dict(id=1, name='person')])))
    return path


def stock_config(name: str, annotations: Path, workers: int) -> Config:
    """A packaged config on these images, with the input size of the benchmark."""
    _, path, size, _ = MODELS[name]
    packaged = Path(importlib.util.find_spec('mmdet').origin).parent / '.mim' / 'configs' / path  # type: ignore[union-attr, arg-type]
    config = Config.fromfile(packaged)
    loader = config.test_dataloader
    loader.num_workers, loader.persistent_workers = workers, workers > 0
    loader.dataset.update(
        data_root='', ann_file=str(annotations), data_prefix=dict(img=f'{annotations.parent}/'), metainfo=None
    )
    loader.dataset.metainfo = dict(classes=('person',))
    for step in loader.dataset.pipeline:
        if step.type == 'Resize':
            step.scale = size
        if step.type == 'Pad':
            step.size = size
    config.test_evaluator.ann_file = str(annotations)
    config.model.bbox_head.num_classes = 1
    return config


def held(process: int) -> int:
    """Bytes of memory that a process and its children hold for themselves, as the system counts them."""
    total = 0
    for number in [process, *_children(process)]:
        try:
            lines = Path(f'/proc/{number}/smaps_rollup').read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith('Pss:'))
    return total


def _children(process: int) -> list[int]:
    found = []
    for path in Path(f'/proc/{process}/task').glob('*/children'):
        for child in path.read_text().split():
            found += [int(child), *_children(int(child))]
    return found


def measure(name: str, images: int, workers: int, folder: Path) -> dict[str, Any]:
    """The figures of one model."""
    title, _, size, target = MODELS[name]
    config = stock_config(name, write_images(folder, images), workers)
    torch.manual_seed(0)
    torch.save(dict(state_dict=build_model(copy.deepcopy(config)).state_dict(), meta={}), folder / 'random.pth')
    evaluation = RobustEvaluation(config, folder / 'random.pth', folder / 'run', RobustSettings())
    grid = Grid.of('benchmark', SEVERITIES)
    evaluation.prepare(grid)
    clean: list[float] = []
    cells: dict[str, float] = {}
    memory: list[int] = []

    def timed(cell: Cell) -> float:
        began = time.perf_counter()
        evaluation.evaluate(cell)
        return time.perf_counter() - began

    timed(Cell.clean())  # starts the workers and warms up
    for corruption in tqdm(BENCHMARK, title, unit='corruption'):
        clean.append(timed(Cell.clean()))
        for severity in SEVERITIES:
            cell = Cell(corruption, severity)
            cells[str(cell)] = timed(cell)
            memory.append(held(os.getpid()))
    evaluation.close()
    return dict(
        title=title,
        size=list(size),
        images=images,
        target=target,
        clean_seconds=clean,
        cell_seconds=cells,
        ratio=sum(cells.values()) / (len(cells) * median(clean)),
        memory_bytes=memory,
        plain_seconds=[plain_run(config, folder, *cell) for cell in PLAIN_CELLS],
    )


def plain_run(config: Config, folder: Path, corruption: str, severity: int) -> float:
    """Wall time of the toolbox's own way: a process that tests one cell."""
    corrupted = copy.deepcopy(config)
    pipeline = corrupted.test_dataloader.dataset.pipeline
    pipeline.insert(1, dict(type='mmsharp.Corrupt', corruption=corruption, severity=severity))
    corrupted.custom_imports = dict(imports=['mmsharp'], allow_failed_imports=False)
    path = folder / f'{corruption}_{severity}.py'
    corrupted.dump(path)
    command = [sys.executable, str(ROOT / 'tools' / 'test.py'), str(path), str(folder / 'random.pth')]
    began = time.perf_counter()
    done = subprocess.run([*command, '--work-dir', str(folder / 'plain')], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MmsharpError(f'the plain run failed: {done.stderr.strip().splitlines()[-1]}')
    return time.perf_counter() - began


def render(record: dict[str, Any]) -> str:
    """The record as a table in Markdown."""
    lines = [
        '| detector | input | images | clean pass | 15 x 5 cells | over 75 clean passes | target | one test run per '
        'cell | memory after 10 cells, at the end |',
        '|---|---|---:|---:|---:|---:|---:|---:|---:|',
    ]
    for found in record['models'].values():
        cells = sum(found['cell_seconds'].values())
        plain = len(found['cell_seconds']) * sum(found['plain_seconds']) / len(found['plain_seconds'])
        memory = found['memory_bytes']
        lines.append(
            f'| {found["title"]} | {found["size"][0]}x{found["size"][1]} | {found["images"]} '
            f'| {median(found["clean_seconds"]):.2f} s | {cells:.0f} s | {found["ratio"]:.2f}x '
            f'| {found["target"]:.2f}x | {plain:.0f} s, {plain / cells:.1f}x '
            f'| {memory[9] / 2**20:.0f} MiB, {memory[-1] / 2**20:.0f} MiB |'
        )
    installed = record['versions']
    lines += [
        '',
        f'Machine: {record["machine"]["processor"]}, {record["machine"]["cores"]} cores, no GPU, torch '
        f'{installed["torch"]}, {record["workers"]} workers for data; photographs of {SIZE[0]}x{SIZE[1]} pixels. The '
        'time of one test run per cell is 75 times the mean of two.',
    ]
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', choices=list(MODELS), default=list(MODELS), help='default: all')
    parser.add_argument('--images', nargs='+', type=int, default=[8, 40], help='for each model (default: 8 40)')
    parser.add_argument('--workers', type=int, default=2, help='processes that load data (default: 2)')
    parser.add_argument('--record', metavar='NAME', help='write the record and the table of the document')
    args = parser.parse_args()
    if len(args.images) != len(args.models) or min(args.images) < 1 or args.workers < 0:
        parser.error('--images needs one positive number per model, and --workers must not be negative')
    return args


def main() -> None:
    """Measure and print; write where asked."""
    args = parse_args()
    warnings.simplefilter('ignore')
    found = {}
    for name, images in zip(args.models, args.images, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(name, images, args.workers, Path(folder))
    record = dict(
        machine=machine(),
        versions=versions(('torch', 'onedl-mmengine', 'onedl-mmdetection', 'onedl-mmcv', 'opencv-python-headless')),
        workers=args.workers,
        seed=0,
        models=found,
    )
    print(render(record))
    if args.record:
        write_json(ROOT / 'benchmarks' / 'results' / f'robust_eval_{args.record}.json', record)
        replace_marked(DOCUMENT, f'robust_eval_{args.record}', render(record))


if __name__ == '__main__':
    run(main)
