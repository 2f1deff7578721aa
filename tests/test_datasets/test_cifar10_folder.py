"""The folders hold the pictures of the archives, as many of every class, and no picture twice."""

import zipfile

import pytest

from mmsharp.datasets.cifar10_folder import CLASSES, CIFAR10Folder, write_cifar10_folder
from mmsharp.errors import MmsharpError

SETTINGS = CIFAR10Folder(train=30, val=10, test=20)


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """Archives with five training images of every class, in two parts, and three test images."""
    folder = tmp_path_factory.mktemp('archives')
    for archive, part, numbers in (
        ('train_a', 'train', range(3)),
        ('train_b', 'train', range(3, 5)),
        ('test', 'test', range(3)),
    ):
        with zipfile.ZipFile(folder / f'{archive}.zip', 'w') as file:
            for kind in CLASSES:
                for number in numbers:
                    file.writestr(f'{part}/{kind}/{number}.png', f'{part} {kind} {number}')
    return folder


def _files(folder, split):
    return {path.relative_to(folder / split).as_posix(): path.read_text() for path in (folder / split).rglob('*.png')}


def test_splits_are_disjoint_and_even(source, tmp_path):
    """Three, one and two of every class; bytes as in the archives."""
    assert list(write_cifar10_folder(source, tmp_path / 'set', SETTINGS))[-1] == (60, 60)
    train, val, test = (_files(tmp_path / 'set', split) for split in ('train', 'val', 'test'))
    assert not set(train) & set(val)
    for found, count, part in ((train, 3, 'train'), (val, 1, 'train'), (test, 2, 'test')):
        for kind in CLASSES:
            names = [name for name in found if name.startswith(f'{kind}/')]
            assert len(names) == count
            assert all(found[name] == f'{part} {name[:-4].replace("/", " ")}' for name in names)


def test_a_holdout_is_of_the_test_images_and_takes_none_of_the_others(source, tmp_path):
    """With it or without, the other splits are the same."""
    list(write_cifar10_folder(source, tmp_path / 'without', SETTINGS))
    with_holdout = CIFAR10Folder(train=30, val=10, test=20, holdout=10)
    assert list(write_cifar10_folder(source, tmp_path / 'with', with_holdout))[-1] == (70, 70)
    for split in ('train', 'val', 'test'):
        assert _files(tmp_path / 'with', split) == _files(tmp_path / 'without', split)
    holdout = _files(tmp_path / 'with', 'holdout')
    assert len(holdout) == 10
    assert not set(holdout) & set(_files(tmp_path / 'with', 'test'))
    assert all(text.startswith('test ') for text in holdout.values())
    assert not (tmp_path / 'without' / 'holdout').exists()


def test_a_holdout_beside_a_large_test_set_is_disjoint_from_smaller_ones(source, tmp_path):
    """So that what was chosen on the one is tested on images of the other, whatever the number."""
    for count in (10, 20):
        list(
            write_cifar10_folder(source, tmp_path / str(count), CIFAR10Folder(train=30, val=10, test=count, holdout=10))
        )
    assert set(_files(tmp_path / '10', 'test')) < set(_files(tmp_path / '20', 'test'))
    assert not set(_files(tmp_path / '20', 'holdout')) & set(_files(tmp_path / '10', 'test'))


def test_a_holdout_may_have_its_place(source, tmp_path):
    """Then it has the same images beside every test set, which are disjoint from it; small sets are in larger ones."""
    splits = {}
    for count in (10, 20):
        settings = CIFAR10Folder(train=30, val=10, test=count, holdout=10, holdout_after=10)
        list(write_cifar10_folder(source, tmp_path / str(count), settings))
        splits[count] = [_files(tmp_path / str(count), split) for split in ('test', 'holdout')]
    assert splits[10][1] == splits[20][1]
    assert set(splits[10][0]) < set(splits[20][0])
    assert {len(splits[20][0]), len(set(splits[20][0]) | set(splits[20][1]))} == {20, 30}
    known = CIFAR10Folder(train=30, val=10, test=10, holdout=10)
    assert list(write_cifar10_folder(source, tmp_path / '10', known)) == [(60, 60)]  # the same images: it is there
    settings = CIFAR10Folder(train=30, val=10, test=20, holdout=10, holdout_after=20)
    with pytest.raises(MmsharpError, match='holdout_after=10, not None'):
        list(write_cifar10_folder(source, tmp_path / '20', settings))


def test_the_same_seed_draws_the_same_and_another_one_others(source, tmp_path):
    """And a set that is there is not written again, nor replaced by another."""
    for name, settings in (('a', SETTINGS), ('b', SETTINGS), ('c', CIFAR10Folder(train=30, val=10, test=20, seed=1))):
        list(write_cifar10_folder(source, tmp_path / name, settings))
    assert _files(tmp_path / 'a', 'train') == _files(tmp_path / 'b', 'train')
    assert _files(tmp_path / 'a', 'train') != _files(tmp_path / 'c', 'train')
    assert list(write_cifar10_folder(tmp_path / 'nowhere', tmp_path / 'a', SETTINGS)) == [(60, 60)]
    with pytest.raises(MmsharpError, match='seed=0, not 5'):
        list(write_cifar10_folder(source, tmp_path / 'a', CIFAR10Folder(train=30, val=10, test=20, seed=5)))


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'train': 33}, 'train=33'),
        ({'val': 0}, 'val=0'),
        ({'train': 50_000}, '50000 training'),
        ({'test': 20_000}, 'test=20000'),
        ({'holdout': 10}, 'test=10000 and holdout=10'),
        ({'test': 10, 'holdout': 20, 'holdout_after': 9_990}, 'holdout=20 after 9990'),
        ({'test': 10, 'holdout_after': 5}, 'holdout_after=5'),
        ({'test': 10, 'holdout': 5}, 'holdout=5'),
    ],
)
def test_numbers_that_cannot_be_are_refused(settings, message):
    """Before anything is read."""
    with pytest.raises(MmsharpError, match=message):
        CIFAR10Folder(**settings)


def test_missing_and_damaged_archives_are_named(source, tmp_path):
    """Nothing is left behind."""
    with pytest.raises(MmsharpError, match=r'train_a\.zip'):
        list(write_cifar10_folder(tmp_path, tmp_path / 'set', SETTINGS))
    with pytest.raises(MmsharpError, match='hold 5 images train/airplane, and 450'):
        list(write_cifar10_folder(source, tmp_path / 'set', CIFAR10Folder(train=4000, val=500, test=20)))
    assert not (tmp_path / 'set').exists()
