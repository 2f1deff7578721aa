"""Write Digits-VOC: real handwritten digits over real photographs, in Pascal VOC's layout, without any download.

    python tools/dataset_converters/digits_voc.py data/digits_voc

Deterministic from --seed; train, val and test share neither a digit sample nor a pixel of a photograph.
"""

from __future__ import annotations

import argparse
from dataclasses import fields

from tqdm import tqdm

from mmsharp.command_line import run
from mmsharp.datasets.digits_voc import DigitsVOC, write_digits_voc

HELP = dict(
    train='training images',
    val='validation images',
    test='test images',
    size='side of the images, in pixels',
    fewest='fewest digits in an image',
    most='most digits in an image',
    smallest="smallest height of a digit, as a share of the image's side",
    largest="largest height of a digit, as a share of the image's side",
    rotation='largest rotation to either side, in degrees',
    seed='everything follows from it',
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', help='where to write')
    for field in fields(DigitsVOC):
        parser.add_argument(
            f'--{field.name}',
            type=type(field.default),
            default=field.default,
            help=f'{HELP[field.name]} (default: {field.default})',
        )
    return parser.parse_args()


def main() -> None:
    """Write the set with a progress bar."""
    arguments = vars(parse_args())
    folder = arguments.pop('folder')
    settings = DigitsVOC(**arguments)
    with tqdm(total=settings.train + settings.val + settings.test, unit='image', desc='Digits-VOC') as bar:
        for done, _ in write_digits_voc(folder, settings):
            bar.update(done - bar.n)
    print(f'{folder}: {settings.train} train, {settings.val} val, {settings.test} test images')


if __name__ == '__main__':
    run(main)
