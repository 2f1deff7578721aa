"""Unpack CIFAR-10 to one folder per class, with a validation split taken out of the training images.

    python tools/dataset_converters/cifar10_folder.py cifar-10-python.tar.gz data/cifar10 [--train 45000 --val 5000]

From the official archives (https://www.cs.toronto.edu/~kriz/cifar.html, the Python or the binary version) or from
train_a.zip, train_b.zip and test.zip of https://github.com/cyizhuo/CIFAR-10-dataset, as
{train,val,test,holdout}/<class>/, as mmpretrain's CustomDataset reads them. Deterministic from --seed.
"""

from __future__ import annotations

import argparse
from dataclasses import fields

from tqdm import tqdm

from mmsharp.command_line import run
from mmsharp.datasets.cifar10_folder import CIFAR10Folder, write_cifar10_folder


def main() -> None:
    """Write the set with a progress bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='an official archive, or the folder with one or with the three zip files')
    parser.add_argument('folder', help='where to write')
    for field in fields(CIFAR10Folder):
        parser.add_argument(f'--{field.name}', type=int, default=field.default, help=f'(default: {field.default})')
    arguments = vars(parser.parse_args())
    source, folder = arguments.pop('source'), arguments.pop('folder')
    images = 0
    with tqdm(unit='image', desc='CIFAR-10') as bar:
        for done, total in write_cifar10_folder(source, folder, CIFAR10Folder(**arguments)):
            bar.total = images = total
            bar.update(done - bar.n)
    print(f'{folder}: {images} images')


if __name__ == '__main__':
    run(main)
