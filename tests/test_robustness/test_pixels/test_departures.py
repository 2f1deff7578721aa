"""Where we depart from the reference, or from what it seems to do."""

import cv2
import numpy as np
import pytest
from reference_pixels import ReferenceDraws, picture
from scipy.ndimage import gaussian_filter, map_coordinates

from mmsharp.errors import MmsharpError
from mmsharp.robustness.constants import CIFAR, IMAGENET
from mmsharp.robustness.pixels import SeededDraws, frost
from mmsharp.robustness.pixels.elastic import elastic_transform
from mmsharp.robustness.pixels.spatter import spatter


class Dry(SeededDraws):
    """Noise that never exceeds a threshold."""

    def normal(self, shape):
        return np.zeros(shape, dtype=np.float32)


@pytest.mark.parametrize('severity', [1, 3, 5])
def test_where_no_drop_falls_the_image_stays(severity):
    """The reference divides by zero there and returns black."""
    image = picture('china.jpg', 97, 131)
    values = (0.5, *IMAGENET['spatter'][severity - 1][1:])
    assert np.array_equal(spatter(image, Dry(0), *values), image)


def test_pictures_of_frost_are_read_once(monkeypatch):
    """Whatever the number of images."""
    module = __import__('mmsharp.robustness.pixels.frost', fromlist=['frost'])
    module._picture.cache_clear()
    module._resized.cache_clear()
    read, real = [], cv2.imread
    monkeypatch.setattr(module.cv2, 'imread', lambda path: read.append(path) or real(path))
    for seed in range(30):
        frost(picture('china.jpg', 40, 210), SeededDraws(seed), *IMAGENET['frost'][0])
    assert len(read) == len(set(read)) == 6


def test_a_missing_picture_is_named(monkeypatch):
    """With the package that it belongs to."""
    module = __import__('mmsharp.robustness.pixels.frost', fromlist=['frost'])
    module._picture.cache_clear()
    module._resized.cache_clear()
    monkeypatch.setattr(module.cv2, 'imread', lambda path: None)
    with pytest.raises(MmsharpError, match=r'frost\d\.(png|jpg).*imagecorruptions-imaug'):
        frost(picture('china.jpg', 40, 210), SeededDraws(0), *IMAGENET['frost'][0])


@pytest.mark.parametrize('severity', [1, 2, 3, 4, 5])
def test_cifars_frost_and_elastic_transform_are_its_generators(severity):
    """Written out as in the generator of CIFAR-10-C, from the same random numbers."""
    image, side = picture('flower.jpg', 32, 32), 32
    random = np.random.RandomState([severity])
    image_weight, frost_weight, shrink = CIFAR['frost'][severity - 1]
    module = __import__('mmsharp.robustness.pixels.frost', fromlist=['frost'])
    texture = cv2.resize(module._picture(random.randint(5)), (0, 0), fx=shrink, fy=shrink)
    top, left = random.randint(0, texture.shape[0] - side), random.randint(0, texture.shape[1] - side)
    crop = texture[top : top + side, left : left + side]
    expected = np.uint8(np.clip(image_weight * image + frost_weight * crop, 0, 255))
    assert np.array_equal(frost(image, ReferenceDraws(severity), *CIFAR['frost'][severity - 1]), expected)

    random = np.random.RandomState([severity])
    strength, sigma, shift = (side * value for value in CIFAR['elastic_transform'][severity - 1])
    points = np.array([[26, 26], [26, 6], [6, 6]], dtype=np.float32)
    moved = points + random.uniform(-shift, shift, (3, 2)).astype(np.float32)
    matrix = cv2.getAffineTransform(points, moved)
    scaled = cv2.warpAffine(np.float32(image) / 255, matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101)
    dx, dy = (
        gaussian_filter(random.uniform(-1, 1, (side, side)), sigma, mode='reflect', truncate=3) * strength
        for _ in range(2)
    )
    down, across = np.meshgrid(np.arange(side), np.arange(side), indexing='ij')
    channels = [map_coordinates(scaled[..., c], (down + dy, across + dx), order=1, mode='reflect') for c in range(3)]
    expected = np.uint8(np.clip(np.stack(channels, axis=-1), 0, 1) * 255)
    found = elastic_transform(image, ReferenceDraws(severity), *CIFAR['elastic_transform'][severity - 1])
    assert (np.abs(found.astype(int) - expected) <= 1).mean() >= 0.999
