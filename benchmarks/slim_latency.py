"""How much of the work that pruning removes arrives as time: dense, masked and slim, in PyTorch and onnxruntime.

    python benchmarks/slim_latency.py [--models resnet50 mobilenet_v2 retinanet_r18 rtmdet_tiny] [--rounds 20]
        [--threads 2] [--record NAME]

Each model is pruned to half of its multiply-accumulates, every group by the same share, once with channel counts that
are multiples of 1, 8 (our default) and 16; beside them stands what Torch-Pruning makes of the same model at the same
budget, or as near to it as it comes. In each engine all of them take one image in turn, so that a change of the
machine's mood meets all alike; figures are medians. What counts is the share of the removed work that was gained as
time,

    (1 - seconds / dense seconds) / (1 - MACs / dense MACs),

which is 1 where time is proportional to work. Weights are random: they do not decide how long a network takes. A masked
network does the work of a dense one. ``--record`` writes benchmarks/results/slim_latency_NAME.json and its table into
docs/prune.md.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn
from tqdm import tqdm

from mmsharp.command_line import run
from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.costs.machine import machine, versions
from mmsharp.engine.export.onnx_export import export_onnx
from mmsharp.engine.export.raw_outputs import RawOutputs
from mmsharp.errors import MmsharpError, one_line
from mmsharp.files import replace_marked, write_json
from mmsharp.pruning import ChannelPruner, apply_recipe, count_macs, count_parameters, tensor_forward
from mmsharp.pruning.costs.complexity import time_in_turns

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / 'docs' / 'prune.md'
BUDGET = 0.5
MULTIPLES = (1, 8, 16)
BENCHMARKED: dict[str, tuple[str, str, str, int, tuple[str, ...]]] = {
    'resnet50': ('ResNet-50', 'mmpretrain', 'resnet/resnet50_8xb32_in1k.py', 224, ('head',)),
    'mobilenet_v2': ('MobileNetV2', 'mmpretrain', 'mobilenet_v2/mobilenet-v2_8xb32_in1k.py', 224, ('head',)),
    'retinanet_r18': ('RetinaNet-R18', 'mmdet', 'retinanet/retinanet_r18_fpn_1x_coco.py', 320, ('bbox_head',)),
    'rtmdet_tiny': ('RTMDet-tiny', 'mmdet', 'rtmdet/rtmdet_tiny_8xb32-300e_coco.py', 320, ('bbox_head',)),
}
"""Title, toolbox, packaged config, side of the image, and the parts that Torch-Pruning is told to leave alone."""


def packaged(name: str) -> Path:
    """The packaged config of a benchmarked model."""
    _, toolbox, path, _, _ = BENCHMARKED[name]
    origin = importlib.util.find_spec(toolbox).origin  # type: ignore[union-attr]
    return Path(origin).parent / '.mim' / 'configs' / path


def build(name: str) -> nn.Module:
    """The model of a packaged config with random weights."""
    torch.manual_seed(0)
    return build_model(Config.fromfile(packaged(name)))


def prune(model: nn.Module, image: Tensor, multiple: int) -> tuple[nn.Module, nn.Module]:
    """The masked and the slim network at the budget."""
    masked = copy.deepcopy(model)
    pruner = ChannelPruner(dict(macs=BUDGET), allocation=dict(type='Uniform'), round_to=multiple)
    pruner.attach(masked, tensor_forward(image))
    pruner.update(1.0)
    slim = copy.deepcopy(masked)
    apply_recipe(slim, pruner.recipe())
    return masked, slim


def prune_by_rival(model: nn.Module, image: Tensor, ignored: tuple[str, ...]) -> nn.Module:
    """Torch-Pruning's network at the budget: the channel ratio is found by bisection, multiples of 8 as ours."""
    import torch_pruning

    dense = count_macs(model, tensor_forward(image))

    def pruned(ratio: float) -> nn.Module:
        slim = copy.deepcopy(model)
        for parameter in slim.parameters():
            parameter.requires_grad_(True)  # its graph is made of gradients
        whole = [layer for name in ignored for layer in slim.get_submodule(name).modules()]
        layers = [layer for layer in whole if isinstance(layer, (nn.Conv2d, nn.Linear))]
        torch_pruning.pruner.BasePruner(
            slim,
            image,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=layers,
            round_to=8,
            forward_fn=lambda network, images: RawOutputs(network)(images),
        ).step()
        return slim

    low, high = 0.0, 0.9
    for _ in range(8):
        middle = (low + high) / 2
        if count_macs(pruned(middle), tensor_forward(image)) <= BUDGET * dense:
            high = middle
        else:
            low = middle
    return pruned(high)


def session(model: nn.Module, image: Tensor, threads: int, folder: str) -> Callable[[], Any]:
    """One pass in onnxruntime, from a file that was checked against PyTorch."""
    import onnxruntime

    path = os.path.join(folder, 'model.onnx')
    export_onnx(model, path, tuple(image.shape[1:]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')  # many sessions take turns
    opened = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    return lambda: opened.run(None, {'images': image.numpy()})


def eager(model: nn.Module, image: Tensor) -> Callable[[], Any]:
    """One pass in PyTorch."""
    raw = RawOutputs(model)

    def call() -> Any:
        with torch.no_grad():
            return raw(image)

    return call


def measure(name: str, rounds: int, threads: int) -> dict[str, Any]:
    """MACs, parameters and median milliseconds of every variant of a model."""
    title, _, _, side, ignored = BENCHMARKED[name]
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    dense = build(name)
    networks: dict[str, nn.Module] = {'dense': dense}
    for multiple in MULTIPLES:
        masked, networks[f'slim, multiples of {multiple}'] = prune(dense, image, multiple)
        networks.setdefault('masked', masked)
    notes = []
    try:
        networks['Torch-Pruning, multiples of 8'] = prune_by_rival(dense, image, ignored)
    except Exception as error:  # what a rival cannot do is a row as well
        notes.append(f'Torch-Pruning: {one_line(error)[:120]}')
    forward = tensor_forward(image)
    variants = {
        key: dict(macs=count_macs(network, forward), parameters=count_parameters(network))
        for key, network in networks.items()
    }
    # One engine after the other: threads of one that wait in a loop would take the cores from the other.
    take_turns(variants, 'pytorch_ms', {key: eager(network, image) for key, network in networks.items()}, rounds)
    with tempfile.TemporaryDirectory() as folder:
        sessions = {key: session(network, image, threads, folder) for key, network in networks.items()}
        take_turns(variants, 'onnxruntime_ms', sessions, rounds)
    return dict(title=title, side=side, variants=variants, notes=notes)


def take_turns(
    variants: dict[str, dict[str, Any]], engine: str, calls: dict[str, Callable[[], Any]], rounds: int
) -> None:
    """Add the median milliseconds of each call to its variant."""
    taken = time_in_turns(list(calls.values()), rounds)
    for key, seconds in zip(calls, taken, strict=True):
        variants[key][engine] = 1000 * seconds


def gained(variant: dict[str, Any], dense: dict[str, Any], engine: str) -> float | None:
    """The share of the removed work that was gained as time; nothing where no work was removed."""
    removed = 1 - variant['macs'] / dense['macs']
    return (1 - variant[engine] / dense[engine]) / removed if removed > 0.01 else None


def render(record: dict[str, Any]) -> str:
    """The record as a table in Markdown."""
    lines = [
        '| | MACs | parameters | PyTorch | gained | onnxruntime | gained |',
        '|---|---:|---:|---:|---:|---:|---:|',
    ]
    for entry in record['models'].values():
        lines.append(f'| **{entry["title"]}**, {entry["side"]} px | | | | | | |')
        dense = entry['variants']['dense']
        for key, variant in entry['variants'].items():
            cells = [f'{variant["macs"] / dense["macs"]:.2f}x', f'{variant["parameters"] / dense["parameters"]:.2f}x']
            for engine in ('pytorch_ms', 'onnxruntime_ms'):
                share = gained(variant, dense, engine)
                absolute = f'{variant[engine]:.1f} ms' if key == 'dense' else f'{variant[engine] / dense[engine]:.2f}x'
                cells += [absolute, '' if share is None else f'{share:.0%}']
            lines.append(f'| {key} | ' + ' | '.join(cells) + ' |')
        lines += [f'| {note} | | | | | | |' for note in entry['notes']]
    place = record['machine']
    lines += [
        '',
        f'Machine: {place["processor"]}, {record["threads"]} threads, torch {record["versions"]["torch"]}, onnxruntime '
        f'{record["versions"]["onnxruntime"]}; one image, medians of {record["rounds"]} rounds. "Gained": the share of '
        'the removed MACs that arrived as time.',
    ]
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', choices=list(BENCHMARKED), default=list(BENCHMARKED), help='which ones')
    parser.add_argument('--rounds', type=int, default=20, help='timed rounds (default: 20)')
    parser.add_argument('--threads', type=int, default=2, help='of both engines (default: 2)')
    parser.add_argument('--record', metavar='NAME', help='write the record and the table of the document')
    args = parser.parse_args()
    if args.rounds < 3 or args.threads < 1:
        parser.error('--rounds has to be at least 3, and --threads at least 1')
    return args


def main() -> None:
    """Measure and print; write where asked."""
    args = parse_args()
    warnings.filterwarnings('ignore')
    torch.set_num_threads(args.threads)
    for package in ('onnxruntime', 'torch_pruning'):
        if importlib.util.find_spec(package) is None:
            raise MmsharpError(f'{package} is not installed; make setup, or pip install it')
    models = {name: measure(name, args.rounds, args.threads) for name in tqdm(args.models, unit='model')}
    record = dict(
        machine=machine(),
        versions=versions(('torch', 'onnxruntime', 'onedl-mmdetection', 'onedl-mmpretrain', 'torch-pruning')),
        threads=args.threads,
        rounds=args.rounds,
        budget=BUDGET,
        seed=0,
        models=models,
    )
    print(render(record))
    if args.record:
        write_json(ROOT / 'benchmarks' / 'results' / f'slim_latency_{args.record}.json', record)
        replace_marked(DOCUMENT, f'slim_latency_{args.record}', render(record))


if __name__ == '__main__':
    run(main)
