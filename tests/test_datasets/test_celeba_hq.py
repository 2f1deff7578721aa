"""CelebA-HQ is read from the files that its authors release."""

import pytest
from celeba_hq_files import write_celeba_hq
from mmengine.registry import DATASETS

from mmsharp.errors import MmsharpError


@pytest.fixture
def root(tmp_path):
    write_celeba_hq(tmp_path / 'celeba_hq')
    return tmp_path / 'celeba_hq'


def build(root, **kwargs):
    return DATASETS.build(dict(type='mmsharp.CelebAHQ', data_root=str(root), pipeline=[], **kwargs))


@pytest.mark.parametrize(('split', 'first'), [('train', 0), ('val', 2), ('test', 4)])
def test_a_split_is_celeba_s_own(root, split, first):
    """Through the mapping of numbers, with the labels of HQ's own file."""
    dataset = build(root, split=split)
    assert [(item['img_path'].rpartition('/')[2], item['gt_label']) for item in dataset] == [
        (f'{first}.jpg', 1),
        (f'{first + 1}.jpg', 0),
    ]
    assert dataset.metainfo['classes'] == ('not Male', 'Male')


def test_another_attribute_is_another_task(root):
    """Nobody smiles here."""
    assert {item['gt_label'] for item in build(root, attribute='Smiling')} == {0}


@pytest.mark.parametrize(
    ('settings', 'file', 'content', 'words'),
    [
        (dict(split='all'), None, None, "split is 'all'; accepted: train, val, test"),
        (dict(attribute='Happy'), None, None, "attribute 'Happy' is none of .*Smiling, Male"),
        (dict(), 'list_eval_partition.txt', None, 'mmlab.ie.cuhk.edu.hk'),
        (dict(), 'list_eval_partition.txt', '000000.jpg 0 1\n', '3 columns, expected 2'),
        (dict(), 'list_eval_partition.txt', '000000.jpg 2\n', "no image of the split 'train'"),
        (dict(), 'CelebAMask-HQ-attribute-anno.txt', '1\nSmiling Male\n0.jpg 1\n', 'malformed line for 0.jpg'),
        (dict(), 'CelebAMask-HQ-attribute-anno.txt', '1\nSmiling Male\n9.jpg 1 1\n', 'no line for 0.jpg'),
    ],
)
def test_what_is_missing_is_named(root, settings, file, content, words):
    """The file, and where to get it."""
    if file is not None:
        (root / file).unlink()
        if content is not None:
            (root / file).write_text(content)
    with pytest.raises(MmsharpError, match=words):
        build(root, **settings)
