"""Mean and spread of robustness evaluations of one method with several seeds.

    python tools/analysis_tools/mean_over_seeds.py RUN RUN ... [--names sgd_seed0 sgd_seed1 ...] [--out FILE]

RUN is a folder of results of tools/test_robust.py. Runs whose names are equal but for their seed, as sgd_seed0 and
sgd_seed1, are one row; all are scored over the cells that they share. The spread is the standard deviation over the
runs, with one less than their number in the denominator.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmsharp.command_line import run
from mmsharp.files import write_text
from mmsharp.robustness import compare_runs, mean_over_seeds
from mmsharp.visualization import seeds_markdown


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', nargs='+', metavar='RUN', help='folders of finished runs')
    parser.add_argument('--names', nargs='+', help="names of the runs, with their seeds (default: the folders' names)")
    parser.add_argument('--metric', help='metric that is averaged (default: the one of the first run)')
    parser.add_argument('--out', type=Path, help='Markdown file to write the table to as well')
    return parser.parse_args()


def main() -> None:
    """Read, average and print."""
    args = parse_args()
    comparison = compare_runs(args.runs, args.names, args.metric)
    text = seeds_markdown(mean_over_seeds(comparison))
    print(text + ''.join(f'note: {note}\n' for note in comparison['notes']), end='')
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.out, text)


if __name__ == '__main__':
    run(main)
