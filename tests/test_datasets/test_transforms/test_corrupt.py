"""The transform corrupts in RGB, touches nothing at severity 0, and does not depend on workers or order."""

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.registry import TRANSFORMS
from torch.utils.data import DataLoader

import mmsharp.datasets  # noqa: F401, registers the transform
from mmsharp.datasets.transforms import Corrupt, CorruptCurrentCell, CurrentCell
from mmsharp.errors import MmsharpError
from mmsharp.robustness import NAMES, Cell, OnTheFly, cell_seed, corrupt


def _image(number, size=(40, 48)):
    return np.random.RandomState(number).randint(0, 256, (*size, 3), dtype=np.uint8)


class Images:
    """A dataset of random images that go through one transform."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return index, self.transform({'img': _image(index), 'img_id': index})['img']


def _collect(transform, **loader):
    batches = DataLoader(Images(transform), collate_fn=list, **loader)
    return {index: image for batch in batches for index, image in batch}


def test_registered_under_the_scope_of_mmsharp():
    """A config of any toolbox names it as mmsharp.Corrupt."""
    transform = TRANSFORMS.build({'type': 'mmsharp.Corrupt', 'corruption': 'fog', 'severity': 2})
    assert isinstance(transform, Corrupt)


@pytest.mark.parametrize('name', NAMES)
def test_severity_zero_is_clean(name):
    """Not even a copy is made, and foreign images pass, because nothing is done."""
    results = {'img': _image(0), 'img_id': 1}
    image = results['img']
    assert Corrupt(name, severity=0)(results)['img'] is image
    assert Corrupt('clean', severity=0)(results)['img'] is image


def test_images_are_corrupted_in_rgb_by_default():
    """BGR goes in and comes out; the function sees RGB. With channel_order='bgr' it sees BGR, as in old MMDetection."""
    bgr = _image(1)
    seed = cell_seed(0, '1', 'saturate', 4)
    default = Corrupt('saturate', 4)({'img': bgr, 'img_id': 1})['img']
    assert np.array_equal(default, corrupt(bgr[..., ::-1], 'saturate', 4, seed)[..., ::-1])
    old = Corrupt('spatter', 4, channel_order='bgr')({'img': bgr, 'img_id': 1})['img']
    assert np.array_equal(old, corrupt(bgr, 'spatter', 4, cell_seed(0, '1', 'spatter', 4)))
    assert not np.array_equal(old, Corrupt('spatter', 4)({'img': bgr, 'img_id': 1})['img'])
    rgb = Corrupt('spatter', 4, image_order='rgb')({'img': bgr, 'img_id': 1})['img']
    assert np.array_equal(rgb, old)


def test_backend_and_constants_are_handed_on():
    """By the transform, and by the one of a grid's current cell."""
    bgr, seed = _image(1, (32, 32)), cell_seed(0, '1', 'contrast', 2)
    current = CurrentCell()
    current.set(Cell('contrast', 2))
    seen = set()
    for chosen in ({}, {'constants': 'imagenet'}, {'backend': 'imagecorruptions'}):
        expected = corrupt(bgr[..., ::-1], 'contrast', 2, seed, **chosen)[..., ::-1]
        grid = CorruptCurrentCell(current, OnTheFly(**chosen), 'bgr')
        for transform in (Corrupt('contrast', 2, **chosen), grid):
            assert np.array_equal(transform({'img': bgr, 'img_id': 1})['img'], expected)
        seen.add(expected.tobytes())
    assert len(seen) >= 2


def test_float_images_of_whole_numbers_keep_their_dtype():
    """What to_float32=True loads is corrupted as the same 8-bit image and stays float32."""
    image = _image(2)
    expected = Corrupt('fog', 3)({'img': image, 'img_id': 1})['img']
    result = Corrupt('fog', 3)({'img': image.astype(np.float32), 'img_id': 1})['img']
    assert result.dtype == np.float32
    assert np.array_equal(result, expected)


@pytest.mark.parametrize('name', ['gaussian_noise', 'impulse_noise', 'glass_blur', 'frost'])
def test_same_pixels_whatever_workers_and_batches(name):
    """0 or 2 workers, batches of 1 or 3, forwards or backwards: the same images."""
    transform = Corrupt(name, severity=2, seed=5)
    expected = _collect(transform, batch_size=1)
    for other in (
        _collect(transform, batch_size=3, num_workers=2),
        _collect(transform, batch_size=3, sampler=range(6, -1, -1)),
    ):
        for index, image in expected.items():
            assert np.array_equal(image, other[index])


def test_persistent_workers_see_the_switched_cell():
    """One loader with living workers gives, after each switch, what a fresh Corrupt of that cell gives."""
    current = CurrentCell()
    transform = CorruptCurrentCell(current, OnTheFly(), 'bgr')
    loader = DataLoader(Images(transform), collate_fn=list, batch_size=2, num_workers=2, persistent_workers=True)
    for cell in (Cell.clean(), Cell('gaussian_noise', 1), Cell('fog', 5), Cell('gaussian_noise', 1), Cell.clean()):
        current.set(cell)
        found = {index: image for batch in loader for index, image in batch}
        expected = _collect(Corrupt(cell.corruption, cell.severity))
        assert all(np.array_equal(found[index], expected[index]) for index in range(7)), cell


def test_images_without_id_are_named_by_their_path_below_the_root():
    """Two roots with the same tree give the same pixels; another name gives others."""
    first = Corrupt('gaussian_noise', 1, data_root='/a')({'img': _image(3), 'img_path': '/a/cat/1.png'})['img']
    moved = Corrupt('gaussian_noise', 1, data_root='/b/c')({'img': _image(3), 'img_path': '/b/c/cat/1.png'})['img']
    other = Corrupt('gaussian_noise', 1, data_root='/a')({'img': _image(3), 'img_path': '/a/dog/1.png'})['img']
    assert np.array_equal(first, moved)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'corruption': 'frog'}, "unknown corruption 'frog'.*fog"),
        ({'corruption': 'noise'}, "unknown corruption 'noise'"),
        ({'corruption': 'clean', 'severity': 1}, "unknown corruption 'clean'"),
        ({'corruption': 'fog', 'severity': 6}, 'severity 6'),
        ({'corruption': 'fog', 'seed': -1}, 'seed -1'),
        ({'corruption': 'fog', 'channel_order': 'gbr'}, "channel_order 'gbr'"),
        ({'corruption': 'fog', 'image_order': 'RGB'}, "image_order 'RGB'"),
        ({'corruption': 'fog', 'backend': 'imgaug'}, "backend 'imgaug'"),
        ({'corruption': 'fog', 'constants': 'coco'}, "constants 'coco'"),
        ({'corruption': 'fog', 'backend': 'imagecorruptions', 'constants': 'cifar'}, "no constants 'cifar'"),
    ],
)
def test_arguments_are_checked_at_construction(arguments, message):
    """A config is refused when it is built, not at the first image."""
    with pytest.raises(MmsharpError, match=message):
        Corrupt(**arguments)


def test_unfit_image_is_named_with_its_cell():
    """The message says which image, which cell, what was found."""
    with pytest.raises(MmsharpError, match=r'image /a/1.png, cell fog/2: .*20x20 pixels'):
        Compose([Corrupt('fog', 2)])({'img': np.zeros((20, 20, 3), np.uint8), 'img_path': '/a/1.png'})
