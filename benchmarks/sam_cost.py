"""What sharpness-aware training costs: step time as a ratio to the plain step, and peak memory.

    python benchmarks/sam_cost.py [--models resnet18 resnet50 retinanet_r18] [--rounds 40] [--device cpu]
        [--record NAME] [--trace FILE]

All variants train copies of one model on the same batch, one step each in turn, so that a change of the machine's mood
meets all of them. A ratio is the median over the rounds of (step of the variant / plain step of the same round), taken
apart for steps with and without an ascent and averaged over a policy's period. ``pytorch_optimizer`` is the SAM of that
package with its own guard of BatchNorm's statistics. Peak memory is what a training step allocates at most, from the
first step on, in a process of its own on CPUs; the excess over plain training is also given in copies of all parameters
of the model, of which AdaSAP moves the weights alone. ``--record`` writes benchmarks/results/sam_cost_NAME.json and its
table into docs/train-sharpness-aware.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from tqdm import tqdm

from mmsharp.command_line import run
from mmsharp.engine.costs.machine import machine, versions
from mmsharp.errors import MmsharpError
from mmsharp.files import replace_marked, write_json
from mmsharp.models import without_downloads

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / 'docs' / 'train-sharpness-aware.md'
OPTIMIZER = dict(type='SGD', lr=1e-4, momentum=0.9, weight_decay=5e-4)
PERIOD = 10
"""Rounds come in multiples of this, the longest period of a policy here."""

SAM = 'mmsharp.SAMOptimWrapper'
VARIANTS: dict[str, dict[str, Any] | None] = {
    'plain': dict(type='OptimWrapper'),
    'SAM': dict(type=SAM, ascent=dict(type='SAM')),
    'ASAM': dict(type=SAM, ascent=dict(type='ASAM')),
    'AdaSAP': dict(type=SAM, ascent=dict(type='AdaSAP')),
    'AdaSAP, Periodic(10)': dict(type=SAM, ascent=dict(type='AdaSAP'), policy=dict(type='Periodic', interval=10)),
    'AdaSAP, LookSAM(5)': dict(type=SAM, ascent=dict(type='AdaSAP'), policy=dict(type='LookSAM', interval=5)),
    'AdaSAP, LookSAM(10)': dict(type=SAM, ascent=dict(type='AdaSAP'), policy=dict(type='LookSAM', interval=10)),
    'AdaSAP, RandomLayers(0.5)': dict(type=SAM, ascent=dict(type='AdaSAP'), policy=dict(type='RandomLayers')),
    'MomentumSAM': dict(type=SAM, ascent=dict(type='MomentumSAM')),
    'pytorch_optimizer SAM': None,
}
TARGETS = {'SAM': 2.03, 'ASAM': 2.03, 'AdaSAP': 2.06}


def packaged(toolbox: str, path: str) -> Config:
    """A config that a toolbox ships."""
    origin = importlib.util.find_spec(toolbox).origin  # type: ignore[union-attr]
    return Config.fromfile(Path(origin).parent / '.mim' / 'configs' / path)


def classification_batch(count: int, side: int, classes: int) -> dict[str, Any]:
    """Random images with labels."""
    from mmpretrain.structures import DataSample

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    return dict(inputs=list(images), data_samples=[DataSample().set_gt_label(i % classes) for i in range(count)])


def resnet18(device: str) -> tuple[str, Any, dict[str, Any], str]:
    """ResNet-18 with a CIFAR head, batch 16 (128 on a GPU)."""
    config = packaged('mmpretrain', 'resnet/resnet18_8xb16_cifar10.py')
    count = 16 if device == 'cpu' else 128
    model = dict(config.model, data_preprocessor=config.data_preprocessor)
    return 'mmpretrain', model, classification_batch(count, 32, 10), f'ResNet-18, CIFAR head, batch {count}'


def resnet50(device: str) -> tuple[str, Any, dict[str, Any], str]:
    """ResNet-50 at 224 pixels, batch 64 on a GPU; at 96 pixels, batch 8 on a CPU."""
    config = packaged('mmpretrain', 'resnet/resnet50_8xb32_in1k.py')
    count, side = (8, 96) if device == 'cpu' else (64, 224)
    model = dict(config.model, data_preprocessor=config.data_preprocessor)
    return 'mmpretrain', model, classification_batch(count, side, 1000), f'ResNet-50, {side} px, batch {count}'


def retinanet_r18(device: str) -> tuple[str, Any, dict[str, Any], str]:
    """RetinaNet with ResNet-18, two images of 192 pixels (sixteen of 640 on a GPU)."""
    from mmdet.testing import demo_mm_inputs

    config = packaged('mmdet', 'retinanet/retinanet_r18_fpn_1x_coco.py')
    count, side = (2, 192) if device == 'cpu' else (16, 640)
    data = demo_mm_inputs(count, [[3, side, side]] * count, num_classes=80, num_items=[4] * count)
    return 'mmdet', config.model, data, f'RetinaNet-R18, {side} px, batch {count}'


BENCHMARKED = dict(resnet18=resnet18, resnet50=resnet50, retinanet_r18=retinanet_r18)


def make_step(described: tuple[str, Any, dict[str, Any], str], name: str, device: str) -> Callable[[], bool]:
    """A function that trains one step of a variant, and says whether it had an ascent."""
    toolbox, config, data, _ = described
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(toolbox):
        model = MODELS.build(Config(dict(model=without_downloads(config))).model).to(device).train()
        if VARIANTS[name] is None:
            return rival_step(model, data)
        wrapper = build_optim_wrapper(model, dict(VARIANTS[name], optimizer=dict(OPTIMIZER)))

    def step() -> bool:
        model.train_step(data, wrapper)
        if name == 'plain':
            return False
        passes, seen[0] = seen[0], 0
        return passes > 1

    seen = [0]

    def count(*_: Any) -> None:
        seen[0] += 1

    model.register_forward_pre_hook(count)
    return step


def rival_step(model: Any, data: dict[str, Any]) -> Callable[[], bool]:
    """The SAM of ``pytorch_optimizer``, used as its documentation says, around the same forward pass."""
    import pytorch_optimizer
    from pytorch_optimizer.optimizer.utils import disable_running_stats, enable_running_stats

    settings = {key: value for key, value in OPTIMIZER.items() if key != 'type'}
    optimizer = pytorch_optimizer.SAM(model.parameters(), torch.optim.SGD, rho=0.05, **settings)

    def loss(batch: Any) -> Any:
        return model.parse_losses(model(**batch, mode='loss'))[0]

    def step() -> bool:
        batch = model.data_preprocessor(data, True)
        enable_running_stats(model)
        loss(batch).backward()
        optimizer.first_step(zero_grad=True)
        disable_running_stats(model)
        loss(batch).backward()
        optimizer.second_step(zero_grad=True)
        return True

    return step


def wait(device: str) -> None:
    """Until a GPU has done what it was given."""
    if device != 'cpu':
        torch.cuda.synchronize()


def measure_times(
    described: tuple[str, Any, dict[str, Any], str], names: list[str], rounds: int, device: str
) -> tuple[dict[str, Any], float]:
    """Ratios to the plain step by variant, and the plain step's median in milliseconds."""
    steps = {name: make_step(described, name, device) for name in names}
    for _ in range(3):
        for step in steps.values():
            step()
    # Start the periods anew, so that each round is a whole one.
    found: dict[str, list[tuple[bool, float]]] = {name: [] for name in names}
    for number in tqdm(range(rounds), unit='round', leave=False):
        order = names if number % 2 else names[::-1]
        for name in order:
            wait(device)
            began = time.perf_counter()
            ascended = steps[name]()
            wait(device)
            found[name].append((ascended, time.perf_counter() - began))
    plain = [seconds for _, seconds in found['plain']]
    ratios = {}
    for name in names:
        kinds: dict[bool, list[float]] = {}
        for (ascended, seconds), base in zip(found[name], plain):
            kinds.setdefault(ascended, []).append(seconds / base)
        ratios[name] = sum(median(values) * len(values) for values in kinds.values()) / rounds
    return ratios, 1000 * median(plain)


def measure_memory(model: str, name: str, device: str) -> int:
    """Bytes that training allocates at most beyond the model itself, over three steps of a fresh process or device."""
    described = BENCHMARKED[model](device)
    if device != 'cpu':
        torch.cuda.empty_cache()
        step = make_step(described, name, device)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(3):
            step()
        return torch.cuda.max_memory_allocated() - before
    step = make_step(described, name, device)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        for _ in range(3):
            step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'trace.json'
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())['traceEvents']
    changes = sorted((e['ts'], e['args']['Bytes']) for e in events if e.get('name') == '[memory]')
    level = peak = 0
    for _, change in changes:
        level += change
        peak = max(peak, level)
    return peak


def memory_of(model: str, name: str, device: str) -> int:
    """:func:`measure_memory`, on CPUs in a process of its own."""
    if device != 'cpu':
        return measure_memory(model, name, device)
    command = [sys.executable, __file__, '--models', model, '--memory-of', name]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise MmsharpError(f'measuring the memory of {name} failed: {ended.stderr.strip().splitlines()[-1]}')
    return int(ended.stdout.strip().splitlines()[-1])


def write_trace(path: str, device: str) -> None:
    """A trace of three AdaSAP steps of ResNet-50, to look for waits in."""
    step = make_step(resnet50(device), 'AdaSAP', device)
    for _ in range(3):
        step()
    kinds = [torch.profiler.ProfilerActivity.CPU] + [torch.profiler.ProfilerActivity.CUDA] * (device != 'cpu')
    with torch.profiler.profile(activities=kinds) as profile:
        for _ in range(3):
            step()
        wait(device)
    profile.export_chrome_trace(path)


def render(record: dict[str, Any]) -> str:
    """The record as a table in Markdown."""
    models = record['models']
    lines = [
        '| | ' + ' | '.join(f'{entry["title"]} | extra memory' for entry in models.values()) + ' |',
        '|---|' + '---|---|' * len(models),
    ]
    for name in record['variants']:
        cells = []
        for entry in models.values():
            copies = entry['extra_copies'][name]
            cells.append(f'{entry["ratio"][name]:.2f}x | {copies:+.2f} copies')
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    place = record['machine']
    plain = ', '.join(f'{entry["plain_ms"]:.0f} ms' for entry in models.values())
    lines += [
        '',
        f'Machine: {place["processor"]}, {record["threads"]} threads, {place["gpu"] or "no GPU"}, torch '
        f'{record["versions"]["torch"]}; {record["rounds"]} rounds; the plain step takes {plain}.',
    ]
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', choices=list(BENCHMARKED), default=list(BENCHMARKED), help='which ones')
    parser.add_argument('--rounds', type=int, default=40, help=f'a multiple of {PERIOD} (default: 40)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='cpu or cuda')
    parser.add_argument('--threads', type=int, default=2, help='of torch on a CPU (default: 2)')
    parser.add_argument('--record', metavar='NAME', help='write the record and the table of the document')
    parser.add_argument('--trace', metavar='FILE', help='write a trace of AdaSAP steps and do nothing else')
    parser.add_argument('--memory-of', metavar='VARIANT', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.rounds < PERIOD or args.rounds % PERIOD:
        parser.error(f'--rounds has to be a multiple of {PERIOD}')
    return args


def main() -> None:
    """Measure and print; write where asked."""
    args = parse_args()
    warnings.filterwarnings('ignore')
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(measure_memory(args.models[0], args.memory_of, 'cpu'))
        return
    if args.trace:
        write_trace(args.trace, args.device)
        return
    names = list(VARIANTS)
    if importlib.util.find_spec('pytorch_optimizer') is None:
        print('pytorch_optimizer is not installed (pip install -r requirements/benchmarks.txt); left out')
        names.remove('pytorch_optimizer SAM')
    models: dict[str, Any] = {}
    for model in args.models:
        described = BENCHMARKED[model](args.device)
        ratios, plain = measure_times(described, names, args.rounds, args.device)
        peaks = {name: memory_of(model, name, args.device) for name in names}
        with DefaultScope.overwrite_default_scope(described[0]):
            built = MODELS.build(Config(dict(model=without_downloads(described[1]))).model)
        size = sum(parameter.numel() * parameter.element_size() for parameter in built.parameters())
        models[model] = dict(
            title=described[3],
            plain_ms=plain,
            ratio=ratios,
            peak_bytes=peaks,
            parameter_bytes=size,
            extra_copies={name: (peaks[name] - peaks['plain']) / size for name in names},
        )
    record = dict(
        machine=machine(),
        versions=versions(('torch', 'onedl-mmengine', 'onedl-mmdetection', 'onedl-mmpretrain', 'pytorch_optimizer')),
        threads=args.threads,
        device=args.device,
        rounds=args.rounds,
        seed=0,
        variants=names,
        targets=TARGETS,
        models=models,
    )
    print(render(record))
    if args.record:
        write_json(ROOT / 'benchmarks' / 'results' / f'sam_cost_{args.record}.json', record)
        replace_marked(DOCUMENT, f'sam_cost_{args.record}', render(record))


if __name__ == '__main__':
    run(main)
