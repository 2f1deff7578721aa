"""Measure how sharp the minimum of one or several trained models is, and draw it over the radius.

    python tools/analysis_tools/sharpness.py CONFIG CHECKPOINT [CHECKPOINT ...] [--rho 0.02 0.05 0.1] [--steps 1]
        [--adaptive] [--split train] [--batches 8] [--out DIR]

Prints ``max over ||eps|| <= rho of L(w + eps) - L(w)`` per checkpoint and rho, and writes sharpness.json and
sharpness.png. With ``--adaptive`` the ball is ASAM's, which rescaling a layer does not change: the one to compare a
dense network with its slim one.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mmsharp.apis import init_model
from mmsharp.command_line import Options, run
from mmsharp.engine.configs.config import load_config
from mmsharp.engine.costs.machine import machine, versions
from mmsharp.engine.model_access.fixed_losses import fixed_losses
from mmsharp.errors import MmsharpError
from mmsharp.files import write_json
from mmsharp.sharpness import measure_sharpness
from mmsharp.visualization.sharpness_figures import draw_sharpness

ADAPTIVE_FLOOR = 0.01


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the models; for a slim model the config beside it')
    parser.add_argument('checkpoints', nargs='+', help='checkpoints of models of this config')
    parser.add_argument('--rho', nargs='+', type=float, default=[0.01, 0.02, 0.05, 0.1], help='radii of the ball')
    parser.add_argument('--steps', type=int, default=1, help="ascent steps (default: 1, SAM's estimate)")
    parser.add_argument('--adaptive', action='store_true', help="ASAM's ball, rho without unit (try 0.5 and more)")
    parser.add_argument('--parameters', default='all', choices=['all', 'weights', 'norm_only'], help='which ones move')
    parser.add_argument('--split', default='train', choices=['train', 'val', 'test'], help='data (default: train)')
    parser.add_argument('--batches', type=int, default=8, help='batches of the split (default: 8)')
    parser.add_argument('--seed', type=int, default=0, help='of order and augmentations (default: 0)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='where to compute')
    parser.add_argument('--names', nargs='+', help="what to call the models (default: the files' names)")
    parser.add_argument('--out', default='work_dirs/sharpness', help='folder to write to (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', action=Options, help='overrides of the config')
    args = parser.parse_args()
    if args.batches < 1:
        parser.error('--batches has to be at least 1')
    if args.names and len(args.names) != len(args.checkpoints):
        parser.error(f'{len(args.names)} names for {len(args.checkpoints)} checkpoints')
    return args


def main() -> None:
    """Measure, print, write and draw."""
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    names = args.names or _names(args.checkpoints)
    results: dict[str, list[dict[str, Any]]] = {}
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    settings = {key: value for key, value in vars(args).items() if key not in ('cfg_options', 'names', 'out')}
    place = dict(machine=machine(), versions=versions(('torch', 'onedl-mmengine', 'mmsharp')))
    progress = tqdm(total=len(names) * len(args.rho), unit='ball', leave=False)
    for name, checkpoint in zip(names, args.checkpoints):
        model = init_model(config, checkpoint, args.device)
        losses = fixed_losses(config, model, args.split, args.batches, args.seed)
        results[name] = []
        for rho in sorted(args.rho):
            eta = ADAPTIVE_FLOOR if args.adaptive else None
            found = measure_sharpness(model, losses, rho, args.steps, eta, args.parameters)
            results[name].append(dict(rho=rho, loss=found.loss, perturbed_loss=found.perturbed_loss, value=found.value))
            progress.update()
        write_json(out / 'sharpness.json', dict(settings=settings, results=_without_infinity(results), **place))
    progress.close()
    draw_sharpness(
        out / 'sharpness.png',
        {
            name: {row['rho']: row['value'] for row in rows if math.isfinite(row['value'])}
            for name, rows in results.items()
        },
    )
    print(f'{"":24}{"rho":>8}{"L(w)":>10}{"L(w+eps)":>11}{"sharpness":>11}')
    for name, rows in results.items():
        for row in rows:
            print(f'{name:24}{row["rho"]:>8g}{row["loss"]:>10.4f}{row["perturbed_loss"]:>11.4f}{row["value"]:>11.4f}')
    print(f'written to {out}: sharpness.json, sharpness.png')


def _without_infinity(results: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """With null where a ball is so large that the loss is no number, which JSON has no words for."""
    return {
        name: [{key: value if math.isfinite(value) else None for key, value in row.items()} for row in rows]
        for name, rows in results.items()
    }


def _names(checkpoints: list[str]) -> list[str]:
    """The files' names or, where these are equal, with the folder above."""
    names = [Path(path).stem for path in checkpoints]
    if len(set(names)) < len(names):
        names = ['/'.join(Path(path).resolve().parts[-2:]) for path in checkpoints]
    if len(set(names)) < len(names):
        raise MmsharpError(f'the checkpoints {", ".join(checkpoints)} are not told apart by their names; give --names')
    return names


if __name__ == '__main__':
    run(main)
