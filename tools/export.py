"""Write a dense or slim model as ONNX and check it against PyTorch in onnxruntime.

    python tools/export.py CONFIG CHECKPOINT --out model.onnx [--shape HEIGHT WIDTH]

Input: preprocessed images, any batch size (one image where no file for any number of them is right). Outputs: a
classifier's scores before the softmax, what the head of a single-stage detector or a DETR gives, for every level or
layer, or the feature maps and region proposal outputs of a two-stage detector. How images are preprocessed, and the
classes, are written into the file under the metadata key `mmsharp`.
"""

from __future__ import annotations

import argparse

from mmsharp.apis import export
from mmsharp.command_line import Options, run


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, ordinary or slim')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', required=True, help='the .onnx file to write')
    parser.add_argument(
        '--shape',
        nargs='+',
        type=int,
        metavar='SIZE',
        help='height and width of the images (default: what the checkpoint was pruned with)',
    )
    parser.add_argument(
        '--opset', type=int, help='version of the ONNX operators (default: 18, or 19 with deformable convolutions)'
    )
    parser.add_argument('--cfg-options', nargs='+', action=Options, help='overrides of the config')
    args = parser.parse_args()
    if args.shape is not None and len(args.shape) not in (1, 2):
        parser.error('--shape takes one size for squares, or height and width')
    return args


def main() -> None:
    """Export and print what was written."""
    args = parse_args()
    size = None if args.shape is None else (args.shape[0], args.shape[-1])
    report = export(args.config, args.checkpoint, args.out, size, args.opset, args.cfg_options)
    for name, shape in report['outputs'].items():
        print(f'{name:20} {" x ".join(map(str, shape))}')
    any_batch = max(report['batches']) > 1
    batches = 'batches of 1, 2 and 3' if any_batch else 'images one by one'
    if not any_batch:
        print('the file takes one image at a time: no exporter wrote one that is right for any number of images')
    if report['partial']:
        print('what depends on the boxes that the model finds, a second stage or masks, is not in the file')
    if report['reads'] is None:
        print('whether the network reads numbers out of the images could not be told')
    for place in report['reads'] or ():
        print(
            f'{place} reads a number out of the images; the file holds what came of it in one run, so make sure that '
            'it is right for yours'
        )
    rounding = ', which its own rounding explains' if report['allowed_for_rounding'] else ''
    print(
        f"onnxruntime and PyTorch differ by {report['difference']:.1e} of the outputs' scale{rounding} (noise in "
        f'{batches}, and bright, dark, faint and strong images); wrote {args.out}, {report["bytes"] / 2**20:.1f} MiB'
    )


if __name__ == '__main__':
    run(main)
