"""The data of the shipped configs, a few images each, in the layouts and under the names that the configs expect."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmsharp.datasets.cifar10_folder import CLASSES as CIFAR10

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def mappings(value: Any) -> Iterator[dict]:
    """Every dictionary inside of a value."""
    if isinstance(value, dict):
        yield value
        value = value.values()
    if not isinstance(value, (str, bytes)) and hasattr(value, '__iter__'):
        for item in value:
            yield from mappings(item)


def write_cifar10(root: Path) -> None:
    """An image of each class in every split."""
    for split in ('train', 'val', 'test'):
        for label, name in enumerate(CIFAR10):
            (root / split / name).mkdir(parents=True)
            picture = np.full((32, 32, 3), 20 * label, dtype=np.uint8)
            cv2.imwrite(str(root / split / name / '0.png'), picture)


def write_bccd(root: Path) -> None:
    """Two images a split, a cell each, in the layout of the real set."""
    for number, split in enumerate(('train', 'train', 'val', 'val', 'test', 'test')):
        _write_picture(root, f'BloodImage_{number:05d}', split, 'RBC', (640, 480), (100, 100, 300, 250))


def write_voc(root: Path) -> None:
    """Two images of each list of the years that the configs name, an aeroplane each."""
    for year, lists in ((2007, ('trainval', 'test')), (2012, ('trainval',))):
        for number, split in enumerate([split for split in lists for _ in range(2)]):
            _write_picture(root / f'VOC{year}', f'{number}', split, 'aeroplane', (160, 120), (20, 20, 90, 100))


def _write_picture(
    root: Path, name: str, split: str, label: str, size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    """One grey image with one box, in the layout of Pascal VOC."""
    for folder in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True, exist_ok=True)
    width, height = size
    cv2.imwrite(str(root / 'JPEGImages' / f'{name}.jpg'), np.full((height, width, 3), 200, dtype=np.uint8))
    corners = ''.join(f'<{side}>{at}</{side}>' for side, at in zip(('xmin', 'ymin', 'xmax', 'ymax'), box))
    (root / 'Annotations' / f'{name}.xml').write_text(
        f'<annotation><size><width>{width}</width><height>{height}</height><depth>3</depth></size><object>'
        f'<name>{label}</name><difficult>0</difficult><bndbox>{corners}</bndbox></object></annotation>'
    )
    with open(root / 'ImageSets/Main' / f'{split}.txt', 'a') as file:
        file.write(f'{name}\n')


def write_imagenet(root: Path) -> None:
    """A thousand folders with one image, the same in each."""
    root.mkdir()
    cv2.imwrite(str(root / 'image.jpg'), np.full((120, 160, 3), 100, dtype=np.uint8))
    for split in ('train', 'val'):
        for label in range(1000):
            (root / split / f'n{label:08d}').mkdir(parents=True)
            os.link(root / 'image.jpg', root / split / f'n{label:08d}' / 'image.jpg')


def write_flowers102(root: Path) -> None:
    """Two images a split, in the layout and the files of the real set."""
    mat4py = pytest.importorskip('mat4py')
    (root / 'jpg').mkdir(parents=True)
    for number in range(1, 7):
        cv2.imwrite(str(root / f'jpg/image_{number:05d}.jpg'), np.full((250, 300, 3), 30 * number, dtype=np.uint8))
    mat4py.savemat(str(root / 'imagelabels.mat'), dict(labels=[1, 2, 3, 4, 5, 102]))
    mat4py.savemat(str(root / 'setid.mat'), dict(trnid=[1, 2], valid=[3, 4], tstid=[5, 6]))


def relocated(config: Config, data: Path) -> Config:
    """The config with the folder ``data`` elsewhere."""
    for part in mappings([config[loader] for loader in LOADERS]):
        if 'data_root' in part and not Path(part['data_root']).is_absolute():
            part['data_root'] = str(data / Path(part['data_root']).relative_to('data')) + '/'
    return config
