"""Does a budget of latency come true: what a latency table predicts, and what the slim network then takes.

    python benchmarks/latency_budget.py [--models resnet50 mobilenet_v2 retinanet_r18 rtmdet_tiny] [--rounds 30]
        [--engines pytorch onnxruntime] [--threads 1] [--record NAME]

Per model and engine a table is measured, and the model pruned to half of its predicted latency with the uniform, the
global and the knapsack allocation; dense and slim networks then run in turns, and their shortest times are compared.
Beside the uniform allocation to half of the latency stands the one to half of the multiply-accumulates, which is what
one would take without a table. ``--record`` writes benchmarks/results/latency_budget_NAME.json and its table into
docs/prune.md.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from typing import Any

import torch
from mmengine.config import Config
from slim_latency import BENCHMARKED, DOCUMENT, ROOT, build, packaged
from torch import nn
from tqdm import tqdm

from mmsharp.command_line import run
from mmsharp.engine.costs.latency_measurement import ENGINES, measure_config
from mmsharp.engine.costs.machine import machine, versions
from mmsharp.engine.export.onnxruntime_engine import OnnxRuntimeEngine
from mmsharp.files import replace_marked, write_json
from mmsharp.pruning import ChannelPruner, apply_recipe, find_groups, tensor_forward
from mmsharp.pruning.costs.complexity import time_in_turns
from mmsharp.pruning.latency import LatencyTable, PyTorchEngine

BUDGET = 0.5
VARIANTS = {
    'macs, Uniform': (dict(macs=BUDGET), 'mmsharp.Uniform'),
    'latency, Uniform': (dict(latency=BUDGET), 'mmsharp.Uniform'),
    'latency, Global': (dict(latency=BUDGET), 'mmsharp.Global'),
    'latency, Knapsack': (dict(latency=BUDGET), 'mmsharp.Knapsack'),
}
"""Budget and allocation."""


def measure(name: str, engine_name: str, threads: int, rounds: int) -> dict[str, Any]:
    """Predicted and measured shares of the dense latency for every variant."""
    title, _, _, side, _ = BENCHMARKED[name]
    shape = (3, side, side)
    began = time.perf_counter()
    table = measure_config(Config.fromfile(packaged(name)), shape, engine_name, threads=threads)
    taken = time.perf_counter() - began
    model = build(name)
    forward = tensor_forward(torch.randn((1, *shape), generator=torch.Generator().manual_seed(0)))
    groups = find_groups(model, forward)
    networks: dict[str, nn.Module] = {'dense': model}
    variants: dict[str, dict[str, Any]] = {}
    for key, (budget, allocation) in VARIANTS.items():
        networks[key], variants[key] = prune(model, forward, groups, budget, allocation, table)
    engine = OnnxRuntimeEngine(shape, threads) if engine_name == 'onnxruntime' else PyTorchEngine()
    with torch.no_grad():
        runs = [engine.network(network, forward) for network in networks.values()]
        dense, *seconds = time_in_turns(runs, rounds, statistic=min)
    for key, value in zip(VARIANTS, seconds):
        variants[key]['measured'] = value / dense
    return dict(
        title=title,
        side=side,
        engine=engine_name,
        dense_ms=1000 * dense,
        table_seconds=taken,
        table_error=table.about['error'],
        variants=variants,
    )


def prune(
    model: nn.Module, forward: Any, groups: Any, budget: dict[str, float], allocation: str, table: LatencyTable
) -> tuple[nn.Module, dict[str, Any]]:
    """The slim network, with the kept shares of each resource and the seconds that the allocation took."""
    slim = copy.deepcopy(model)
    pruner = ChannelPruner(budget, allocation=dict(type=allocation), latency_table=table)
    pruner.attach(slim, forward, groups)
    began = time.perf_counter()
    pruner.update(1.0)
    taken = time.perf_counter() - began
    apply_recipe(slim, pruner.recipe())
    kept = pruner.kept
    return slim, dict(predicted=kept['latency'], macs=kept['macs'], params=kept['params'], allocation_seconds=taken)


def render(record: dict[str, Any]) -> str:
    """The record as a table in Markdown."""
    lines = [
        '| half of the | engine | MACs | parameters | predicted latency | measured |',
        '|---|---|---:|---:|---:|---:|',
    ]
    for entry in record['models']:
        lines.append(
            f'| **{entry["title"]}**, {entry["side"]} px, dense {entry["dense_ms"]:.1f} ms; table in '
            f'{entry["table_seconds"]:.0f} s, off by {entry["table_error"]:.0%} | {entry["engine"]} | | | | |'
        )
        for key, variant in entry['variants'].items():
            shares = ' | '.join(f'{variant[name]:.2f}x' for name in ('macs', 'params', 'predicted', 'measured'))
            lines.append(f'| {key} | {entry["engine"]} | {shares} |')
    place = record['machine']
    lines += [
        '',
        f'Machine: {place["processor"]}, {record["threads"]} thread, torch {record["versions"]["torch"]}, onnxruntime '
        f'{record["versions"]["onnxruntime"]}; one image, shortest of {record["rounds"]} rounds in turns.',
    ]
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', choices=list(BENCHMARKED), default=list(BENCHMARKED), help='which ones')
    parser.add_argument('--engines', nargs='+', choices=ENGINES, default=list(ENGINES), help='which ones')
    parser.add_argument('--rounds', type=int, default=30, help='timed rounds (default: 30)')
    parser.add_argument('--threads', type=int, default=1, help='of both engines (default: 1)')
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
    pairs = [(name, engine) for name in args.models for engine in args.engines]
    record = dict(
        machine=machine(),
        versions=versions(('torch', 'onnxruntime', 'onedl-mmdetection', 'onedl-mmpretrain')),
        threads=args.threads,
        rounds=args.rounds,
        budget=BUDGET,
        seed=0,
        models=[measure(name, engine, args.threads, args.rounds) for name, engine in tqdm(pairs, unit='model')],
    )
    print(render(record))
    if args.record:
        write_json(ROOT / 'benchmarks' / 'results' / f'latency_budget_{args.record}.json', record)
        replace_marked(DOCUMENT, f'latency_budget_{args.record}', render(record))


if __name__ == '__main__':
    run(main)
