"""Measure how long the layers of a model take on this device, as a table that a budget of latency is met by.

    python tools/analysis_tools/latency_table.py CONFIG --shape HEIGHT WIDTH --out table.json
        [--engine pytorch|onnxruntime] [--device cpu] [--threads N] [--batch 1]

Run it on the device that the model is for, on an idle machine. Every layer is timed alone over a grid of sizes; then
some slim networks as a whole, to fit what lies between the layers, and others to see how good the prediction is. Prune
with it, wherever the training runs:

    default_hooks = dict(pruning=dict(type='mmsharp.PruningHook', budget=dict(latency=0.5), pruner=dict(
        type='mmsharp.ChannelPruner', latency_table='table.json', allocation=dict(type='mmsharp.Knapsack'))))
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from mmsharp.command_line import Options, run
from mmsharp.engine.configs.config import load_config
from mmsharp.engine.costs.latency_measurement import ENGINES, measure_config
from mmsharp.errors import MmsharpError
from mmsharp.pruning.latency import LatencyTable

TRUSTED = 0.15
"""Prediction errors above this are the machine's: it was busy."""
COVERED = 0.8
"""Below this share of the multiply-accumulates in timed layers, the prediction rests on what was fitted."""
SHOWN = 8


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the dense model')
    parser.add_argument('--shape', nargs='+', type=int, required=True, metavar='SIZE', help='height and width')
    parser.add_argument('--out', required=True, help='the .json file to write')
    parser.add_argument('--engine', choices=ENGINES, default='pytorch', help='what runs the model (default: pytorch)')
    parser.add_argument('--device', default='cpu', help='of PyTorch: cpu, cuda, cuda:1 (default: cpu)')
    parser.add_argument('--threads', type=int, help='of the CPU (default: as many as PyTorch takes)')
    parser.add_argument('--batch', type=int, default=1, help='images at once (default: 1)')
    parser.add_argument('--channels', type=int, default=3, help='of the images (default: 3)')
    parser.add_argument('--points', type=int, default=6, help='sizes per axis of a layer (default: 6)')
    parser.add_argument('--repeats', type=int, default=10, help='timed rounds (default: 10)')
    parser.add_argument('--cfg-options', nargs='+', action=Options, help='overrides of the config')
    args = parser.parse_args()
    if len(args.shape) not in (1, 2):
        parser.error('--shape takes one size for squares, or height and width')
    return args


def main() -> None:
    """Measure, print and write."""
    args = parse_args()
    if not Path(args.out).resolve().parent.is_dir():
        raise MmsharpError(f'--out {args.out!r}: there is no such folder; make it first')
    config = load_config(args.config, args.cfg_options)
    with tqdm(total=1, unit='step', leave=False) as bar:

        def show(done: int, total: int, what: str) -> None:
            bar.total, bar.n = total, done
            bar.set_description(what)  # which redraws

        table = measure_config(
            config,
            (args.channels, args.shape[0], args.shape[-1]),
            args.engine,
            args.device,
            args.threads,
            args.batch,
            args.points,
            args.repeats,
            show,
        )
    table.save(args.out)
    print_table(table)
    print(f'wrote {args.out}')


def print_table(table: LatencyTable) -> None:
    """The layers that take longest, and how well whole networks are predicted."""
    alone = {path: layer.at(tuple(layer.dense.values())) for path, layer in table.layers.items()}
    total = table.seconds({})
    slowest = sorted(alone, key=lambda path: -alone[path])[:SHOWN]
    print(f'{len(alone)} layers; those that take longest:')
    for path in slowest:
        print(f'  {path:48} {1000 * alone[path]:9.3f} ms alone')
    share = float(table.about['timed_share'])
    print(f'they do {share:.0%} of the multiply-accumulates')
    if share < COVERED:
        print(
            'warning: the rest is not timed alone (products of attention, nn.MultiheadAttention, deformable '
            'convolutions) and enters by fitted coefficients only; trust the error below more than single layers'
        )
    networks = table.about['networks']
    print(f'whole networks: {"measured":>10} {"predicted":>10}')
    for network in networks:
        use = 'fitted to' if network['fitted'] else 'not fitted to'
        shown = f'{1000 * network["measured"]:7.2f} ms {1000 * network["predicted"]:7.2f} ms'
        print(f'{"":16}{shown}  {network["predicted"] / network["measured"] - 1:+.0%}  {use}')
    print(f'dense {1000 * total:.2f} ms; prediction off by (median of networks not fitted to): {error_of(table):.1%}')
    if error_of(table) > TRUSTED:
        print('the prediction is poor: most often the machine was busy; measure again when it is idle')


def error_of(table: LatencyTable) -> float:
    """Median relative error on networks that the table was not fitted to."""
    return float(table.about['error'])


if __name__ == '__main__':
    run(main)
