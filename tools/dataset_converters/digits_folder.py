"""Write real handwritten digits as a set for classification, one folder per class, without any download.

    python tools/dataset_converters/digits_folder.py data/digits_folder

Colour images of 32x32 in {train,val,test}/<class>/, as mmpretrain's CustomDataset reads them. Deterministic from
--seed.
"""

from __future__ import annotations

import argparse
from dataclasses import fields

from tqdm import tqdm

from mmsharp.command_line import run
from mmsharp.datasets.digits_folder import DigitsFolder, write_digits_folder

HELP = dict(
    copies='images per digit sample',
    rotation='largest rotation to either side, in degrees',
    seed='everything follows from it',
)


def main() -> None:
    """Write the set with a progress bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', help='where to write')
    for field in fields(DigitsFolder):
        parser.add_argument(
            f'--{field.name}',
            type=type(field.default),
            default=field.default,
            help=f'{HELP[field.name]} (default: {field.default})',
        )
    arguments = vars(parser.parse_args())
    folder = arguments.pop('folder')
    images = 0
    with tqdm(unit='image', desc='digits') as bar:
        for done, total in write_digits_folder(folder, DigitsFolder(**arguments)):
            bar.total = images = total
            bar.update(done - bar.n)
    print(f'{folder}: {images} images')


if __name__ == '__main__':
    run(main)
