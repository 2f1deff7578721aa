"""Measure how robust a model is to image corruptions, or compare models that were measured.

    python tools/test_robust.py CONFIG CHECKPOINT [--corruptions benchmark] [--severities 0 1 2 3] [--work-dir DIR]
    python tools/test_robust.py --compare RUN_A RUN_B ... [--names dense slim] [--out DIR]

The config may be any of MMDetection or MMPretrain and need not know of mmsharp. Started again in the same --work-dir,
the tool goes on after the last finished cell.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmsharp.command_line import Options, run
from mmsharp.robustness import BACKENDS, CONSTANTS, GROUPS, NAMES

DEFAULT_SEVERITIES = (0, 1, 2, 3, 4, 5)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', help='config of the model')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint of the model')
    parser.add_argument(
        '--corruptions',
        nargs='+',
        default=['benchmark'],
        metavar='NAME',
        help=f'names and groups, several combine (default: benchmark). Groups: {", ".join(GROUPS)}. '
        f'Names: {", ".join(NAMES)}',
    )
    parser.add_argument(
        '--severities',
        nargs='+',
        type=int,
        default=list(DEFAULT_SEVERITIES),
        metavar='N',
        help='severities from 0 (clean, needed for rPC) to 5 (default: 0 1 2 3 4 5)',
    )
    parser.add_argument('--work-dir', help='folder for the results (default: work_dirs/<config>/robustness)')
    parser.add_argument('--seed', type=int, default=0, help="seed of the corruptions' random numbers (default: 0)")
    parser.add_argument('--metric', help='metric that is averaged (default: mAP, bbox_mAP or accuracy/top1)')
    parser.add_argument(
        '--channel-order',
        choices=['rgb', 'bgr'],
        default='rgb',
        help="what the corruption functions get (default: rgb); bgr reproduces MMDetection's old tool",
    )
    parser.add_argument(
        '--image-order',
        choices=['auto', 'rgb', 'bgr'],
        default='auto',
        help='how the pipeline holds images (default: auto, BGR behind a loading transform, RGB for arrays)',
    )
    parser.add_argument(
        '--position',
        choices=['auto', 'after_loading', 'after_crop'],
        default='auto',
        help='where to corrupt (default: auto, after loading for detectors, after resize and crop for classifiers)',
    )
    parser.add_argument(
        '--backend',
        choices=BACKENDS,
        default='mmsharp',
        help='whose pixel functions (default: mmsharp); imagecorruptions is the slower reference',
    )
    parser.add_argument(
        '--constants',
        choices=CONSTANTS,
        default='auto',
        help='what the severities mean (default: auto, cifar for images of 32x32 pixels and imagenet for all others)',
    )
    parser.add_argument('--show-samples', type=int, default=2, metavar='N', help='images in the report (default: 2)')
    parser.add_argument('--cfg-options', nargs='+', action=Options, help='changes of the config, as key=value')
    parser.add_argument('--launcher', choices=['none', 'pytorch'], default='none', help='pytorch under torchrun')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument(
        '--compare', nargs='+', metavar='RUN', help='folders of finished runs; the first is the baseline'
    )
    parser.add_argument('--names', nargs='+', help="names of the compared runs (default: the folders' names)")
    parser.add_argument('--out', help='where --compare writes its tables (default: beside the first run)')
    args = parser.parse_args(arguments)
    if args.compare is None and (args.config is None or args.checkpoint is None):
        parser.error('give CONFIG and CHECKPOINT, or --compare with at least two folders')
    if args.compare is not None and (args.config is not None or len(args.compare) < 2):
        parser.error('--compare needs at least two folders and takes no CONFIG')
    if args.show_samples < 0:
        parser.error('--show-samples must not be negative')
    return args


def evaluate(args: argparse.Namespace) -> None:
    """Evaluate one model and print its scores."""
    from mmsharp.apis import evaluate_robustness

    work_dir = args.work_dir or Path('work_dirs') / Path(args.config).stem / 'robustness'
    summary = evaluate_robustness(
        args.config,
        args.checkpoint,
        work_dir,
        corruptions=args.corruptions,
        severities=args.severities,
        seed=args.seed,
        metric=args.metric,
        cfg_options=args.cfg_options,
        channel_order=args.channel_order,
        image_order=args.image_order,
        position=args.position,
        launcher=args.launcher,
        samples=args.show_samples,
        backend=args.backend,
        constants=args.constants,
    )
    if summary:
        print_scores(summary)
        print(f'\nwritten to {work_dir}: results.jsonl, summary.json, summary.md, cells.csv, report.html')


def print_scores(summary: dict[str, Any]) -> None:
    """Print clean value, mPC, rPC and the families as a table of text."""
    from mmsharp.visualization.numbers import percent_text, value_text

    scores = summary['scores']
    clean = scores['clean']
    mark = ' (over a subset of the benchmark)' if scores['subset'] else ''
    print(f'\n{summary["metric"]}, {summary["images"]} images')
    print(f'  {"clean P":<12}{value_text(clean):>8}')
    print(f'  {"mPC":<12}{value_text(scores["mpc"]):>8}{mark}')
    print(f'  {"rPC":<12}{percent_text(scores["rpc"]):>8}')
    named = {**scores['families'], **({'holdout': scores['holdout']} if scores['holdout'] is not None else {})}
    for family, value in named.items():
        ratio = value / clean if value is not None and clean else None
        print(f'    {family:<10}{value_text(value):>8}   rPC {percent_text(ratio):>8}')
    relative = summary.get('corruption_errors')
    if relative:
        print(
            f'  {"mCE":<12}{percent_text(relative["mce"]):>8}   relative mCE {percent_text(relative["relative_mce"])}'
        )
        print(f'    to {relative["reference"]}, which has 100 %')
    if scores['missing']:
        print(f'  missing cells: {", ".join(scores["missing"])}', file=sys.stderr)


def compare(args: argparse.Namespace) -> None:
    """Put finished runs side by side and print the table."""
    from mmsharp.apis import compare_robustness
    from mmsharp.visualization import comparison_text, write_comparison

    comparison = compare_robustness(args.compare, args.names, args.metric)
    out = Path(args.out) if args.out else Path(args.compare[0]).resolve().parent / 'comparison'
    write_comparison(out, comparison)
    print(comparison_text(comparison))
    print(f'written to {out}: compare.json, compare.md, compare.html')


def main() -> None:
    """Evaluate or compare."""
    args = parse_args()
    if args.compare is None:
        evaluate(args)
    else:
        compare(args)


if __name__ == '__main__':
    run(main)
