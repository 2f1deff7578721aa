"""Folders that are numbers are classes by number."""

import cv2
import numpy as np
import pytest

from mmsharp.datasets import ImageNetV2
from mmsharp.errors import MmsharpError
from mmsharp.registry import DATASETS


def _folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)
        cv2.imwrite(str(root / name / 'b.jpeg'), np.zeros((4, 4, 3), dtype=np.uint8))
        (root / name / 'readme.txt').touch()
    return root


def test_labels_are_the_numbers_and_not_their_place_in_the_alphabet(tmp_path):
    """10 comes after 2; by its name in a config, with the keys of ImageNet's."""
    root = _folders(tmp_path, '0', '1', '2', '10', '999')
    config = {'type': 'mmsharp.ImageNetV2', 'data_root': str(root), 'split': 'val', 'pipeline': [], 'test_mode': True}
    dataset = DATASETS.build(config)
    assert isinstance(dataset, ImageNetV2)
    assert [dataset.get_data_info(index)['gt_label'] for index in range(len(dataset))] == [0, 1, 2, 10, 999]
    assert dataset.metainfo['classes'][:2] == ('tench, Tinca tinca', 'goldfish, Carassius auratus')
    assert len(dataset.metainfo['classes']) == 1000
    assert dataset.get_data_info(3)['img_path'] == str(root / '10' / 'b.jpeg')


@pytest.mark.parametrize(
    ('names', 'message'),
    [((), 'holds no image'), (('0', 'n01440764'), "'n01440764'"), (('0', '1000'), "'1000'")],
)
def test_other_folders_are_refused(tmp_path, names, message):
    """ImageNet's own classes, or too many."""
    with pytest.raises(MmsharpError, match=message):
        ImageNetV2(str(_folders(tmp_path, *names)))
    with pytest.raises(MmsharpError, match='does not exist'):
        ImageNetV2(str(tmp_path / 'nowhere'))
