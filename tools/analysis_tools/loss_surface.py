"""Draw the loss on a plane through the weights of a trained model, along two random filter-normalised directions.

    python tools/analysis_tools/loss_surface.py CONFIG CHECKPOINT [--radius 1.0] [--points 21] [--batches 4] [--out DIR]

Prints how far from the model the loss doubles, and writes loss_surface.json and loss_surface.png. The same seed draws
the same directions for models of one architecture.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from tqdm import tqdm

from mmsharp.apis import init_model
from mmsharp.command_line import Options, run
from mmsharp.engine.configs.config import load_config
from mmsharp.engine.costs.machine import machine, versions
from mmsharp.engine.model_access.fixed_losses import fixed_losses
from mmsharp.errors import MmsharpError
from mmsharp.files import write_json
from mmsharp.sharpness import LossSurface
from mmsharp.visualization.sharpness_figures import draw_loss_surface


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the model; for a slim model the config beside it')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--radius', type=float, default=1.0, help='half the side of the square, in filter lengths')
    parser.add_argument('--points', type=int, default=21, help='points per side, odd so that one is the model')
    parser.add_argument('--split', default='train', choices=['train', 'val', 'test'], help='data (default: train)')
    parser.add_argument('--batches', type=int, default=4, help='batches of the split (default: 4)')
    parser.add_argument('--seed', type=int, default=0, help='of directions, order and augmentations (default: 0)')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='where to compute')
    parser.add_argument('--out', default='work_dirs/loss_surface', help='folder to write to (default: %(default)s)')
    parser.add_argument('--cfg-options', nargs='+', action=Options, help='overrides of the config')
    args = parser.parse_args()
    if args.batches < 1:
        parser.error('--batches has to be at least 1')
    if args.points < 3 or args.points % 2 == 0:
        parser.error('--points has to be odd and at least 3')
    if not args.radius > 0:
        parser.error('--radius has to be positive')
    return args


def main() -> None:
    """Evaluate the grid, print, write and draw."""
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    model = init_model(config, args.checkpoint, args.device)
    losses = fixed_losses(config, model, args.split, args.batches, args.seed)
    surface = LossSurface(model, losses, args.seed)
    loss = surface.at(0.0, 0.0)
    if not math.isfinite(loss):
        raise MmsharpError(
            f'the loss of {args.checkpoint} on {args.split} is {loss}, and a surface around it would show nothing: the '
            'training has diverged, or the checkpoint does not belong to this config'
        )
    points = list(tqdm(surface.grid(args.radius, args.points), total=args.points**2, unit='point', leave=False))
    axis = [points[index * args.points][0] for index in range(args.points)]
    values = [value if math.isfinite(value) else None for *_, value in points]
    rows = [values[start : start + args.points] for start in range(0, len(values), args.points)]
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    settings = {key: value for key, value in vars(args).items() if key not in ('cfg_options', 'out')}
    record = dict(
        settings=settings,
        axis=axis,
        losses=rows,
        machine=machine(),
        versions=versions(('torch', 'onedl-mmengine', 'mmsharp')),
    )
    write_json(out / 'loss_surface.json', record)
    title = f'{Path(args.checkpoint).name}, {args.batches} batches of {args.split}'
    draw_loss_surface(out / 'loss_surface.png', axis, rows, title)
    doubled = [math.hypot(a, b) for a, b, value in points if not value < 2 * loss]
    reach = f'doubles {min(doubled):.2f} filter lengths away' if doubled else 'does not double inside the square'
    print(f'loss {loss:.4f} at the model; {reach} (nearest of {len(points)} points)')
    print(f'written to {out}: loss_surface.json, loss_surface.png')


if __name__ == '__main__':
    run(main)
