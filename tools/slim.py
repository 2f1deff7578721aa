"""Turn a masked or slim training checkpoint into a deployable one.

    python tools/slim.py CONFIG CHECKPOINT --out DIR

Writes DIR/slim.pth (weights alone: EMA where there is one, no optimizer state), DIR/config.py, DIR/recipe.json and
DIR/slim.json, and prints parameters, MACs and measured latency before and after. The folder is all that
``tools/test.py DIR/config.py DIR/slim.pth`` and the toolboxes' own tools need.
"""

from __future__ import annotations

import argparse
import sys

from mmsharp.apis import slim
from mmsharp.command_line import Options, run


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='the config that the checkpoint was trained with')
    parser.add_argument('checkpoint', help='a training checkpoint, masked or slim')
    parser.add_argument('--out', required=True, help='folder to write to')
    parser.add_argument('--repeats', type=int, default=30, help='forward passes for the latency (default: 30)')
    parser.add_argument('--cfg-options', nargs='+', action=Options, help='overrides of the config')
    return parser.parse_args()


def main() -> None:
    """Deploy and print the table."""
    args = parse_args()
    report = slim(args.config, args.checkpoint, args.out, args.cfg_options, args.repeats)
    dense, small = report['dense'], report['slim']
    print(f'{"":14}{"dense":>14}{"slim":>14}{"slim/dense":>12}')
    for key, label in (('parameters', 'parameters'), ('macs', 'MACs'), ('latency_ms', 'latency, ms')):
        if dense[key] is None:
            print(f'{label:14}{"not measured: the checkpoint does not say for which input":>40}')
            continue
        digits = '.2f' if key == 'latency_ms' else ',d'
        print(f'{label:14}{dense[key]:>14{digits}}{small[key]:>14{digits}}{small[key] / dense[key]:>12.1%}')
    if report['input_shape'] is not None:
        print(f'for one input of shape {tuple(report["input_shape"])}; wrote {args.out}')
    for note in report['notes']:
        print(f'note: {note}', file=sys.stderr)


if __name__ == '__main__':
    run(main)
