"""Folders of arrays as CIFAR-10-C is released."""

import pickle

import numpy as np
import pytest

from mmsharp.errors import MmsharpError
from mmsharp.robustness import Cell, CorruptedArrays, is_folder_of_arrays

LABELS = [3, 8, 1]


def _pictures():
    return np.random.RandomState(0).randint(0, 256, (15, 4, 4, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Three images in two corruptions."""
    np.save(tmp_path / 'labels.npy', np.tile(LABELS, 5))
    np.save(tmp_path / 'fog.npy', _pictures())
    np.save(tmp_path / 'spatter.npy', _pictures()[::-1])
    return tmp_path


def test_severities_lie_one_after_the_other(folder):
    """Image i at severity s is number (s - 1) N + i; a writable copy."""
    arrays = CorruptedArrays(folder)
    assert {cell.corruption for cell in arrays.cells} == {'fog', 'spatter'}
    assert len(arrays.cells) == 10
    image = arrays.image(Cell('fog', 4), 2)
    assert np.array_equal(image, _pictures()[11])
    image[:] = 0
    assert np.array_equal(arrays.image(Cell('fog', 4), 2), _pictures()[11])


def test_a_worker_opens_the_files_for_itself(folder):
    """What is sent to a process holds no pictures."""
    arrays = CorruptedArrays(folder)
    arrays.image(Cell('fog', 1), 0)
    sent = pickle.dumps(arrays)
    assert len(sent) < _pictures().nbytes
    assert np.array_equal(pickle.loads(sent).image(Cell('fog', 1), 1), _pictures()[1])


def test_another_order_of_the_images_is_refused(folder):
    """The labels tell; the first part of the set is fine."""
    arrays = CorruptedArrays(folder)
    arrays.check_labels(LABELS)
    arrays.check_labels(LABELS[:2])
    for labels in (LABELS[::-1], [*LABELS, 0]):
        with pytest.raises(MmsharpError, match=r'official order.*CIFAR10'):
            arrays.check_labels(labels)


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('fog.npy', _pictures()[:14], r'fog\.npy holds uint8 of the shape \(14, 4, 4, 3\); expected uint8 of \(15'),
        ('fog.npy', _pictures().astype(np.float32), 'float32'),
        ('labels.npy', np.arange(14), r'labels\.npy has the shape \(14,\)'),
        ('fog.npy', None, r'fog\.npy cannot be read as an array'),
    ],
)
def test_damaged_arrays_are_refused_by_name(folder, name, content, message):
    """Of another length or dtype, or cut off."""
    if content is None:
        (folder / name).write_bytes((folder / name).read_bytes()[:100])
    else:
        np.save(folder / name, content)
    with pytest.raises(MmsharpError, match=message):
        CorruptedArrays(folder)


def test_a_pickle_is_not_opened(folder):
    """Arrays of objects would run code."""
    np.save(folder / 'fog.npy', np.array([{'a': 1}], dtype=object), allow_pickle=True)
    with pytest.raises(MmsharpError, match='cannot be read as an array'):
        CorruptedArrays(folder)


def test_other_folders_are_none(tmp_path):
    """Labels alone, or arrays of other names."""
    assert not is_folder_of_arrays(tmp_path)
    np.save(tmp_path / 'labels.npy', np.tile(LABELS, 5))
    np.save(tmp_path / 'mist.npy', _pictures())
    assert not is_folder_of_arrays(tmp_path)
    with pytest.raises(MmsharpError, match=r'holds no labels\.npy beside arrays'):
        CorruptedArrays(tmp_path)
