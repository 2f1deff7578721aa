"""Measure how robust a model is to image corruptions, certify a classifier under random transforms, or compare models.

    python tools/test_robust.py CONFIG CHECKPOINT [--corruptions benchmark] [--severities 0 1 2 3] [--work-dir DIR]
    python tools/test_robust.py CONFIG CHECKPOINT --certify rotation:10 brightness:0.4 rotation:10+brightness:0.4
    python tools/test_robust.py --compare RUN_A RUN_B ... [--names dense slim] [--out DIR]

The config may be any of MMDetection or MMPretrain and need not know of mmsharp. Started again in the same --work-dir,
the tool goes on after the last finished cell or transform. With --certify the corruptions are measured too if
--corruptions or --severities is given, and both are in one report; otherwise the options of the grid are refused.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmsharp.command_line import Options, run
from mmsharp.robustness import BACKENDS, CHANNEL_ORDERS, CONSTANTS, GROUPS, NAMES, ON_BAD_IMAGE, transform_names

OF_THE_GRID = (
    'corrupted',
    'metric',
    'classwise',
    'on_bad_image',
    'tta',
    'channel_order',
    'image_order',
    'position',
    'backend',
    'constants',
    'samples',
)
"""Options that say nothing to a certification."""
SETTINGS = ('corruptions', 'severities', 'work_dir', 'seed', 'cfg_options', 'launcher', *OF_THE_GRID)
"""The options that are arguments of :func:`mmsharp.apis.evaluate_robustness`, by their names there."""
CERTIFICATION = ('draws', 'groups', 'eps', 'compat', 'cap', 'confidence', 'grid', 'chunk', 'seed')
"""The options that are arguments of :class:`mmsharp.robustness.CertificationSettings`, by their names there."""


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', help='config of the model')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint of the model')
    parser.add_argument(
        '--corruptions',
        nargs='+',
        metavar='NAME',
        help=f'names and groups, several combine (default: benchmark). Groups: {", ".join(GROUPS)}. '
        f'Names: {", ".join(NAMES)}',
    )
    parser.add_argument(
        '--severities',
        nargs='+',
        type=int,
        metavar='N',
        help='severities from 0 (clean, needed for rPC) to 5 (default: 0 1 2 3 4 5)',
    )
    parser.add_argument(
        '--corrupted',
        metavar='DIR',
        help='read corrupted images instead of computing them: ImageNet-C or CIFAR-10-C (.npy) as released, or a tree '
        'that tools/dataset_converters/corrupt_dataset.py wrote',
    )
    parser.add_argument('--work-dir', help='folder for the results (default: work_dirs/<config>/robustness)')
    parser.add_argument('--seed', type=int, help="seed of the corruptions' random numbers (default: 0)")
    parser.add_argument('--metric', help='metric that is averaged (default: mAP, bbox_mAP or accuracy/top1)')
    parser.add_argument('--classwise', action='store_true', default=None, help='keep the values of every class too')
    parser.add_argument(
        '--on-bad-image',
        choices=ON_BAD_IMAGE,
        help='stop at an image that cannot be read (default), or leave it out of every cell and list it',
    )
    parser.add_argument(
        '--tta', action='store_true', default=None, help="test-time augmentation, the config's or mirrored"
    )
    parser.add_argument(
        '--channel-order',
        choices=CHANNEL_ORDERS,
        help="what the corruption functions get (default: rgb); bgr reproduces MMDetection's old tool",
    )
    parser.add_argument(
        '--image-order',
        choices=['auto', *CHANNEL_ORDERS],
        help='how the pipeline holds images (default: auto, BGR behind a loading transform, RGB for arrays)',
    )
    parser.add_argument(
        '--position',
        choices=['auto', 'after_loading', 'after_crop'],
        help='where to corrupt (default: auto, after loading for detectors, after resize and crop for classifiers)',
    )
    parser.add_argument(
        '--backend',
        choices=BACKENDS,
        help='whose pixel functions (default: mmsharp); imagecorruptions is the slower reference',
    )
    parser.add_argument(
        '--constants',
        choices=CONSTANTS,
        help='what the severities mean (default: auto, cifar for images of 32x32 pixels and imagenet for all others)',
    )
    parser.add_argument('--samples', '--show-samples', type=int, metavar='N', help='images in the report (default: 2)')
    parser.add_argument('--cfg-options', nargs='+', action=Options, help='changes of the config, as key=value')
    parser.add_argument('--launcher', choices=['none', 'pytorch'], default='none', help='pytorch under torchrun')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    _add_certification(parser)
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
    _check_modes(parser, args)
    if args.samples is not None and args.samples < 0:
        parser.error('--samples must not be negative')
    return args


def _check_modes(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse an option that would have no effect, by its name."""

    def given(names: Sequence[str]) -> list[str]:
        return [f'--{name.replace("_", "-")}' for name in names if getattr(args, name) is not None]

    of_comparison, of_certification = given(['names', 'out']), given(['images', *CERTIFICATION])
    if args.compare is not None:
        others = given(['certify', *(name for name in OF_THE_GRID if name != 'metric')])
        others += given(['corruptions', 'severities', 'work_dir', 'cfg_options'])
        others += [*of_certification, *(['--launcher'] if args.launcher != 'none' else [])]
        if others:
            parser.error(f'--compare reads finished runs, and {others[0]} would change nothing in them; leave it out')
        return
    if of_comparison:
        parser.error(f'{of_comparison[0]} belongs to --compare, which is not given; results go to --work-dir')
    without_effect = [name for name in of_certification if name != '--seed']
    if without_effect and args.certify is None:
        parser.error(f'{without_effect[0]} belongs to --certify, which is not given')
    if args.certify is None:
        return
    without_effect = given(OF_THE_GRID)
    if without_effect and not measures_corruptions(args):
        parser.error(
            f'{without_effect[0]} is of the corruption grid and changes no certification; leave it out, or give '
            '--corruptions or --severities to measure the grid too'
        )
    if args.launcher != 'none':
        parser.error('--certify runs in one process; leave --launcher out')
    if args.images is not None and args.images < 0:
        parser.error(f'--images {args.images} cannot be certified; give a whole number, 0 for all')


def measures_corruptions(args: argparse.Namespace) -> bool:
    """Whether a corruption grid is wanted: always but with ``--certify``, and there where it is asked for."""
    return args.certify is None or args.corruptions is not None or args.severities is not None


def _add_certification(parser: argparse.ArgumentParser) -> None:
    """The options of ``--certify``."""
    group = parser.add_argument_group('certification of classifiers, docs/certify.md')
    group.add_argument(
        '--certify',
        nargs='+',
        metavar='TRANSFORM',
        help='certify under random transforms, name:amount, several joined by a plus: rotation:10 (degrees), '
        'translation:0.2 (of the side), scale:0.3, brightness:0.4, contrast:0.4, gamma:2 (largest exponent), blur:2 '
        f'(pixels). Names: {", ".join(transform_names())}',
    )
    group.add_argument('--images', type=int, metavar='N', help='test images, chosen by --seed; 0: all (default: 500)')
    group.add_argument('--draws', type=int, metavar='N', help='transformed copies in each group (default: 100)')
    group.add_argument('--groups', type=int, metavar='K', help='groups of draws (default: 10, so 1000 draws an image)')
    group.add_argument('--eps', nargs='+', type=float, help='failure rates (default: 0.1 0.01 0.001 0.0001)')
    group.add_argument('--compat', choices=['official'], help="the published code's temperatures and float32")
    group.add_argument(
        '--cap', type=_cap, help='highest temperature of the capped bound (default: supported, by the number of draws)'
    )
    group.add_argument('--confidence', type=float, help='of the Clopper-Pearson bound, per image (default: 0.999)')
    group.add_argument('--grid', type=int, metavar='N', help='points per parameter of the grid; 0: none (default: 20)')
    group.add_argument('--chunk', type=int, metavar='N', help='images at a time, which bounds memory (default: 250)')


def _cap(text: str) -> float | str:
    return text if text == 'supported' else float(text)


def certify(args: argparse.Namespace) -> None:
    """Certify one classifier and print the table."""
    from mmsharp.apis import certify_robustness
    from mmsharp.visualization import certification_text

    work_dir, decided = _decided(args)
    settings = {name: value for name in ('seed',) if (value := decided.get(name)) is not None}
    settings |= {name: value for name in CERTIFICATION if (value := getattr(args, name)) is not None}
    images = {} if args.images is None else {'images': args.images or None}
    summary = certify_robustness(
        args.config, args.checkpoint, work_dir, args.certify, settings=settings, cfg_options=args.cfg_options, **images
    )
    print(f'\n{certification_text(summary["transforms"])}')
    print(f'\nwritten to {work_dir}: certification.json, certification.md, certification.csv, report.html')


def evaluate(args: argparse.Namespace) -> None:
    """Evaluate one model and print its scores."""
    from mmsharp.apis import evaluate_robustness

    work_dir, settings = _decided(args)
    settings |= {name: value for name in SETTINGS if name != 'work_dir' and (value := getattr(args, name)) is not None}
    summary = evaluate_robustness(args.config, args.checkpoint, work_dir, **settings)
    if summary:
        print_scores(summary)
        print(f'\nwritten to {work_dir}: results.jsonl, summary.json, summary.md, cells.csv, report.html')


def _decided(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The folder for the results, and what ``robustness.evaluation`` of the config decides where nobody else does."""
    from mmsharp.apis import evaluate_robustness
    from mmsharp.engine.configs.config import load_config
    from mmsharp.engine.robustness.from_config import evaluation_settings

    settings = evaluation_settings(load_config(args.config, args.cfg_options), evaluate_robustness)
    work_dir = args.work_dir or settings.pop('work_dir', None)
    settings.pop('work_dir', None)
    return Path(work_dir or Path('work_dirs') / Path(args.config).stem / 'robustness'), settings


def print_scores(summary: dict[str, Any]) -> None:
    """Print clean value, mPC, rPC and the families as a table of text."""
    from mmsharp.visualization.numbers import percent_text, top_of, value_text

    scores = summary['scores']
    clean, top = scores['clean'], top_of(summary)
    mark = ' (over a subset of the benchmark)' if scores['subset'] else ''
    print(f'\n{summary["metric"]}, {summary["images"]} images')
    print(f'  {"clean P":<12}{value_text(clean, top=top):>8}')
    print(f'  {"mPC":<12}{value_text(scores["mpc"], top=top):>8}{mark}')
    print(f'  {"rPC":<12}{percent_text(scores["rpc"]):>8}')
    named = {**scores['families'], **({'holdout': scores['holdout']} if scores['holdout'] is not None else {})}
    for family, value in named.items():
        ratio = value / clean if value is not None and clean else None
        print(f'    {family:<10}{value_text(value, top=top):>8}   rPC {percent_text(ratio):>8}')
    relative = summary.get('corruption_errors')
    if relative:
        print(
            f'  {"mCE":<12}{percent_text(relative["mce"]):>8}   relative mCE {percent_text(relative["relative_mce"])}'
        )
        print(f'    to {relative["reference"]}, which has 100 %')
    by_class = summary.get('by_class')
    if by_class:
        mean = percent_text(by_class['mean_class_rpc'])
        print(f'  mean of per-class rPC {mean} over {by_class["over"]} classes')
    for bad in summary.get('left_out', []):
        print(f'  left out: {bad["reason"]}', file=sys.stderr)
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
    if args.compare is not None:
        compare(args)
        return
    if measures_corruptions(args):
        evaluate(args)
    if args.certify is not None:
        certify(args)


if __name__ == '__main__':
    run(main)
