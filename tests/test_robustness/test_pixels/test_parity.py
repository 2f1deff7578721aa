"""Fed with the same random numbers, our pixels are those of ``imagecorruptions`` within one grey level.

The law: on at least 99.9 % of all values of every image, for every corruption and severity; and our mean grey level
differs by less than a third of a level, so that no result is rounded where the reference truncates. What is left of the
difference is the reference's rounding errors, which take whole numbers to the one below.
"""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from reference_pixels import SHAPES, ours, picture, real_pictures, reference

from mmsharp.robustness import NAMES, SEVERITIES
from mmsharp.robustness.constants import CIFAR, IMAGENET

SEED = 2**90 + 17
BITWISE = {'pixelate', 'jpeg_compression', 'impulse_noise', 'shot_noise', 'frost', 'contrast'}
OTHERWISE = {'frost', 'elastic_transform', 'pixelate', 'zoom_blur'}
"""What CIFAR-10-C's generator does otherwise than the package, or writes without a list of constants."""


def check(image, name, severity, table=IMAGENET):
    """Compare one cell of one image."""
    expected = reference(image, name, severity, SEED + severity, table)
    found = ours(image, name, severity, SEED + severity, table)
    assert (found.shape, found.dtype) == (expected.shape, np.uint8)
    difference = found.astype(int) - expected
    assert (np.abs(difference) <= 1).mean() >= 0.999, (name, severity, image.shape)
    assert abs(difference.mean()) < 1 / 3, (name, severity, image.shape)
    if name in BITWISE:
        assert not difference.any(), (name, severity, image.shape)


@pytest.mark.parametrize('name', NAMES)
def test_pixels_are_the_references(name):
    """Photographs and random values, small, elongated and smallest."""
    for shape in SHAPES[1:]:
        for content in ('china.jpg', 'random', 'extremes'):
            for severity in SEVERITIES:
                check(picture(content, *shape), name, severity)


@pytest.mark.parametrize('name', NAMES)
def test_pixels_are_the_references_at_full_size(name):
    """A photograph of Pascal VOC's size, where severities differ most."""
    for severity in (1, 5):
        check(picture('flower.jpg', *SHAPES[0]), name, severity)


@pytest.mark.parametrize('shape', [(700, 640), (320, 2700)])
def test_frost_is_the_references_on_images_larger_than_its_pictures(shape):
    """Pictures are enlarged to hold the image; huge ones are not kept."""
    for severity in SEVERITIES:
        check(picture('random', *shape), 'frost', severity)


@pytest.mark.parametrize('name', [name for name in NAMES if name not in OTHERWISE])
def test_pixels_are_the_references_with_the_constants_of_cifar(name):
    """The reference's own code with the other constants in it, on images of 32 pixels."""
    for content in ('china.jpg', 'flower.jpg', 'random', 'extremes'):
        for severity in SEVERITIES:
            check(picture(content, 32, 32), name, severity, CIFAR)


@pytest.mark.data
@pytest.mark.parametrize('name', NAMES)
def test_pixels_are_the_references_on_real_data(name):
    """Blood cells and CIFAR-10."""
    for image in real_pictures():
        for severity in (1, 3, 5):
            check(image, name, severity)


@pytest.mark.large
@pytest.mark.data
@pytest.mark.timeout(1200)
@pytest.mark.parametrize('name', NAMES)
def test_pixels_are_the_references_on_many_real_images(name):
    """Every fifth test image of the blood cells, all severities."""
    folder = Path(os.environ['MMSHARP_DATA']) / 'bccd/BCCD'
    names = (folder / 'ImageSets/Main/test.txt').read_text().split()[::5]
    for image in names:
        pixels = cv2.imread(str(folder / 'JPEGImages' / f'{image}.jpg'))[..., ::-1]
        for severity in SEVERITIES:
            check(np.ascontiguousarray(pixels), name, severity)
