"""Robustness of a detector that was trained from a stock config on real images: RTMDet-tiny on the cells of BCCD.

    MMSHARP_DATA=... python benchmarks/bccd_robustness.py [--work-dir DIR] [--mixed] [--record NAME]

Trains configs/dense/rtmdet_tiny_bccd.py, takes the checkpoint that was best on the validation images, and
evaluates the test images clean and under 15 corruptions at 5 severities, per class. Then some cells again with other
batch sizes: the pixels are the same, so what differs is rounding. Killed and started again, it goes on where it was.
``--record`` writes benchmarks/results/bccd_robustness_NAME.json and its tables into docs/robustness.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.arguments import add_mixed, data_folder
from experiments.methods import MIXED

from mmsharp.apis import evaluate_robustness
from mmsharp.command_line import run
from mmsharp.engine.configs.config import load_config
from mmsharp.engine.costs.machine import machine
from mmsharp.errors import MmsharpError
from mmsharp.files import replace_marked, write_json
from mmsharp.robustness import load_results
from mmsharp.visualization.tables import summary_markdown

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / 'configs' / 'dense' / 'rtmdet_tiny_bccd.py'
DOCUMENT = ROOT / 'docs' / 'robustness.md'
BATCHES = (1, 3, 8)
CELLS = (('gaussian_noise', 'fog', 'jpeg_compression'), (0, 3, 5))


def data_options() -> dict[str, Any]:
    """The options that say where the images are."""
    root = f'{data_folder()}/bccd/BCCD/'
    return {f'{split}_dataloader.dataset.data_root': root for split in ('train', 'val', 'test')}


def train(work_dir: Path, config: Path = CONFIG, mixed: bool = False) -> Path:
    """Train unless that is done, and give the checkpoint that was best on the validation images."""
    last = load_config(config).train_cfg.max_epochs
    if not (work_dir / f'epoch_{last}.pth').is_file():
        options = {**data_options(), 'default_hooks.memory_format.type': 'mmsharp.ChannelsLastHook'}
        if mixed:
            options['optim_wrapper.type'] = MIXED['OptimWrapper']
        command = [sys.executable, str(ROOT / 'tools' / 'train.py'), str(config), '--work-dir', str(work_dir)]
        command += ['--resume', '--cfg-options', *(f'{name}={value}' for name, value in options.items())]
        if subprocess.run(command, check=False).returncode:
            raise MmsharpError('training stopped; see above, then start again')
    # A kill between the two leaves the last best one beside the new one.
    return max(work_dir.glob('best_pascal_voc_mAP_epoch_*.pth'), key=lambda path: int(path.stem.rpartition('_')[2]))


def batch_differences(checkpoint: Path, work_dir: Path) -> dict[str, dict[str, float]]:
    """Largest absolute difference of the metric over some cells, to batches of one image."""
    found = {}
    for batch in BATCHES:
        options = {**data_options(), 'test_dataloader.batch_size': batch}
        folder = work_dir / f'batch_{batch}'
        evaluate_robustness(CONFIG, checkpoint, folder, *CELLS, cfg_options=options, samples=0, metric='pascal_voc/mAP')
        found[batch] = {str(cell): result.metrics['pascal_voc/mAP'] for cell, result in load_results(folder)[1].items()}
    return {
        str(batch): {cell: abs((value or 0.0) - (found[1][cell] or 0.0)) for cell, value in values.items()}
        for batch, values in found.items()
    }


def render(record: dict[str, Any]) -> str:
    """The record as Markdown."""
    largest = max(max(values.values()) for values in record['batch_differences'].values())
    cells = len(next(iter(record['batch_differences'].values())))
    batches = ', '.join(record['batch_differences'])
    return '\n'.join(
        [
            summary_markdown(record['summary']).strip(),
            '',
            f'Batches of {batches} images: over {cells} cells the metric differs by at most {largest:.1g}. '
            f'{record["summary"]["seconds"] / 60:.0f} minutes for all cells on {record["machine"]["cores"]} cores '
            f'({record["machine"]["processor"]}); one seed.',
        ]
    )


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs' / 'bccd_robustness', help='where to work')
    add_mixed(parser)
    parser.add_argument('--record', metavar='NAME', help='write the record and the tables of the document')
    return parser.parse_args()


def main() -> None:
    """Train, evaluate and print; write where asked."""
    args = parse_args()
    checkpoint = train(args.work_dir / 'train', mixed=args.mixed)
    options = data_options()
    summary = evaluate_robustness(CONFIG, checkpoint, args.work_dir / 'robustness', cfg_options=options, classwise=True)
    summary.pop('source')
    record = dict(
        machine=machine(),
        seed=0,
        summary=summary,
        batch_differences=batch_differences(checkpoint, args.work_dir),
    )
    print(render(record))
    if args.record:
        write_json(ROOT / 'benchmarks' / 'results' / f'bccd_robustness_{args.record}.json', record)
        replace_marked(DOCUMENT, f'bccd_robustness_{args.record}', render(record))


if __name__ == '__main__':
    run(main)
