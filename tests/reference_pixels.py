"""What our pixel functions are compared with: ``imagecorruptions``, the random numbers that it draws, and pictures."""

import functools
import io
import os
import types
import zipfile
from pathlib import Path

import cv2
import imagecorruptions
import numba
import numpy as np
from sklearn.datasets import load_sample_image

from mmsharp.robustness import corrupt
from mmsharp.robustness.constants import CIFAR, IMAGENET
from mmsharp.robustness.generators import words
from mmsharp.robustness.pixels import FUNCTIONS

SHAPES = ((375, 500), (97, 131), (210, 40), (32, 32))
"""Height and width of the pictures: of Pascal VOC's size, small, elongated, smallest."""


@functools.cache
def picture(name, height, width):
    """A photograph of scikit-learn's, ``random`` values, or ``extremes``, of some size.

    Extremes are black, white, grey and pure colours, in single pixels on the left and in flat areas on the right.
    """
    random = np.random.RandomState(height)
    if name == 'random':
        return random.randint(0, 256, (height, width, 3), dtype=np.uint8)
    if name == 'extremes':
        image = random.choice(np.array([0, 0, 1, 128, 254, 255, 255], dtype=np.uint8), (height, width, 3))
        image[: height // 2, : width // 4] = image[: height // 2, : width // 4, :1]
        for row, colour in enumerate(((0, 0, 0), (255, 255, 255), (77, 77, 77), (255, 0, 0), (3, 200, 90))):
            image[row * height // 5 : (row + 1) * height // 5, width // 2 :] = colour
        return image
    return cv2.resize(load_sample_image(name), (width, height), interpolation=cv2.INTER_AREA)


def real_pictures():
    """Two pictures of each real data set that ``MMSHARP_DATA`` names: blood cells and CIFAR-10."""
    root = Path(os.environ['MMSHARP_DATA'])
    files = sorted((root / 'bccd').rglob('*.jpg'))[:2]
    yield from (cv2.imread(str(file))[..., ::-1].copy() for file in files)
    with zipfile.ZipFile(root / 'cifar10' / 'test.zip') as archive:
        names = sorted(name for name in archive.namelist() if name.endswith('.png'))[:2]
        for name in names:
            content = np.frombuffer(io.BytesIO(archive.read(name)).read(), dtype=np.uint8)
            yield cv2.imdecode(content, cv2.IMREAD_COLOR)[..., ::-1].copy()


def ours(image, name, severity, seed, table=IMAGENET):
    """Our function, fed with the numbers that the reference draws for the same seed."""
    return FUNCTIONS[name](image, ReferenceDraws(seed), *table[name][severity - 1])


def reference(image, name, severity, seed, table=IMAGENET):
    """The reference's function, with constants of CIFAR put in place of its own where ``table`` is ``CIFAR``."""
    if table is IMAGENET:
        return corrupt(image, name, severity, seed, backend='imagecorruptions')
    functions = imagecorruptions.corruption_dict
    original = functions[name]
    functions[name] = with_constants(original, IMAGENET[name], CIFAR[name])
    try:
        return corrupt(image, name, severity, seed, backend='imagecorruptions')
    finally:
        functions[name] = original


def with_constants(function, old, new):
    """A copy of a reference function in which the list of its severity constants is another."""
    old, new = (tuple(value[0] if len(value) == 1 else value for value in row) for row in (old, new))
    constants = function.__code__.co_consts
    assert old in constants, f'{function.__name__} no longer holds its constants as {old}'
    code = function.__code__.replace(co_consts=tuple(new if value == old else value for value in constants))
    return types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__)


@numba.njit
def _numba_offsets(seed, reach, iterations, rows, columns):
    """The draws of the reference's glass blur, from numba's own generator."""
    np.random.seed(seed)
    offsets = np.empty((iterations, rows, columns, 2), dtype=np.int8)
    for iteration in range(iterations):
        for row in range(rows):
            for column in range(columns):
                across, down = np.random.randint(-reach, reach, size=(2,))
                offsets[iteration, row, column, 0], offsets[iteration, row, column, 1] = across, down
    return offsets


class ReferenceDraws:
    """A :class:`mmsharp.robustness.pixels.Draws` out of the generators of the reference package.

    Args:
        seed: The one given to ``corrupt(..., backend='imagecorruptions')``.
    """

    def __init__(self, seed):
        self.seed = seed
        self.legacy = np.random.RandomState(words(seed))

    def normal(self, shape):
        return self.legacy.normal(size=shape)

    def uniform(self, shape):
        return self.legacy.random_sample(shape)

    def number(self, low, high):
        return self.legacy.uniform(low, high)

    def integer(self, count):
        return self.legacy.randint(count)

    def offsets(self, reach, shape):
        return _numba_offsets(self.seed & 0xFFFFFFFF, reach, *shape[:3])

    def poisson(self, means, levels, largest):
        return np.minimum(self.legacy.poisson(means[levels]), largest).astype(np.uint16)

    def impulses(self, shape, amount):
        random = np.random.default_rng(self.seed & (2**128 - 1))
        flipped = random.random(shape) <= amount
        salted = random.random(shape) <= 0.5
        return flipped * (1 + salted.astype(np.uint8))
