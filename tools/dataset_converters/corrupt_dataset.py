"""Write the corrupted images of a config's data set, so that any tool can be evaluated on them.

    python tools/dataset_converters/corrupt_dataset.py CONFIG data/VOC-C [--corruptions benchmark] [--severities 1 3 5]

OUT/<corruption>/<severity>/<path of the image>, as ImageNet-C is released: at full size for detectors, after resize and
crop for classifiers. PNG files, the default, hold the very pixels that are computed on the fly, and images of other
formats get the suffix .png: tools that ask for the files by name, as mmdet's VOCDataset and CocoDataset do, do not find
them. For these, --format jpg keeps the names of .jpg and .JPEG files altogether, at the cost of a lossy compression.
tools/test_robust.py --corrupted OUT evaluates on it. Started again, the tool goes on where it
was.
"""

from __future__ import annotations

import argparse
import os

from tqdm import tqdm

from mmsharp.command_line import Options, run
from mmsharp.robustness import BACKENDS, CHANNEL_ORDERS, CONSTANTS, GROUPS, NAMES, SEVERITIES, Grid, OnTheFly


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config whose data set is written; its model plays no part')
    parser.add_argument('out', help='folder of the tree')
    parser.add_argument(
        '--corruptions',
        nargs='+',
        default=['benchmark'],
        metavar='NAME',
        help=f'names and groups (default: benchmark). Groups: {", ".join(GROUPS)}. Names: {", ".join(NAMES)}',
    )
    parser.add_argument(
        '--severities', nargs='+', type=int, default=list(SEVERITIES), metavar='N', help='(default: 1 2 3 4 5)'
    )
    parser.add_argument('--split', choices=['test', 'val'], default='test', help='whose images (default: test)')
    parser.add_argument(
        '--format',
        choices=['png', 'jpg'],
        default='png',
        help='png (default) keeps every pixel, and changes other suffixes; jpg keeps the names of .jpg and .JPEG files',
    )
    parser.add_argument('--quality', type=int, default=95, help='of jpg, 1 to 100 (default: 95; ImageNet-C has 85)')
    parser.add_argument('--seed', type=int, default=0, help="seed of the corruptions' random numbers (default: 0)")
    parser.add_argument(
        '--position',
        choices=['auto', 'after_loading', 'after_crop'],
        default='auto',
        help='where to corrupt (default: auto, after loading for detectors, after resize and crop for classifiers)',
    )
    parser.add_argument('--channel-order', choices=CHANNEL_ORDERS, default='rgb', help='what the functions get')
    parser.add_argument('--backend', choices=BACKENDS, default='mmsharp', help='whose pixel functions')
    parser.add_argument('--constants', choices=CONSTANTS, default='auto', help='what the severities mean')
    parser.add_argument('--workers', type=int, default=os.cpu_count() or 1, help='processes (default: one per core)')
    parser.add_argument('--cfg-options', nargs='+', action=Options, help='overrides of the config')
    args = parser.parse_args()
    if args.workers < 0:
        parser.error('--workers must not be negative')
    return args


def main() -> None:
    """Write the tree with a progress bar."""
    args = parse_args()
    grid = Grid.of(args.corruptions, args.severities)
    from mmsharp.engine.configs.config import load_config
    from mmsharp.engine.robustness.tree_writer import TreeSettings, write_tree

    settings = TreeSettings(
        OnTheFly(args.seed, args.channel_order, args.backend, args.constants), args.position, args.format, args.quality
    )
    config = load_config(args.config, args.cfg_options)
    pictures = 0
    with tqdm(unit='picture', desc='corrupting') as bar:
        for done, total in write_tree(config, args.out, grid, settings, args.split, args.workers):
            bar.total = pictures = total
            bar.update(done - bar.n)
    print(f'{args.out}: {pictures} pictures in {len(grid.corruptions)} corruptions')


if __name__ == '__main__':
    run(main)
