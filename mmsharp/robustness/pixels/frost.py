"""Frost.

Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261), in the form of ``imagecorruptions``, whose six pictures are
read from its installation. They are decoded and resized once per process and size.
"""

import functools
import importlib.util
import math
from pathlib import Path

import cv2
import numpy as np

from mmsharp.errors import MmsharpError
from mmsharp.robustness.pixels.compiled import compiled
from mmsharp.robustness.pixels.draws import Draws

PICTURES = ('frost1.png', 'frost2.png', 'frost3.png', 'frost4.jpg', 'frost5.jpg', 'frost6.jpg')
MARGIN = 1.1
LARGEST_KEPT = 2**24
"""Bytes up to which a resized picture is kept for the next image: 2048x2048 pixels would need more."""


def frost(
    image: np.ndarray, draws: Draws, image_weight: float, frost_weight: float, shrink: float | None
) -> np.ndarray:
    """Return image_weight x + frost_weight f, clipped, with a random crop f of one of six pictures of frost.

    Drawn are the picture, the crop's row and its column. Pictures are enlarged to 1.1 times what holds the image;
    ``shrink`` scales them by that factor instead, and takes the first five alone, as CIFAR-10-C's generator does.
    """
    height, width = image.shape[:2]
    if shrink is None:
        picture = _enlarged(draws.integer(len(PICTURES)), height, width)
    else:
        picture = _shrunk(draws.integer(len(PICTURES) - 1), shrink, height, width)
    row, column = draws.integer(picture.shape[0] - height), draws.integer(picture.shape[1] - width)
    crop = np.ascontiguousarray(picture[row : row + height, column : column + width])
    out = np.empty_like(image)
    _blend(image.reshape(-1), crop.reshape(-1), image_weight, frost_weight, out.reshape(-1))
    return out


def _enlarged(number: int, height: int, width: int) -> np.ndarray:
    rows, columns = _picture(number).shape[:2]
    scale = MARGIN * max(height / rows, width / columns, 1)
    size = math.ceil(columns * scale), math.ceil(rows * scale)
    resize = _resized if 3 * size[0] * size[1] <= LARGEST_KEPT else _resized.__wrapped__
    return resize(number, size, 0)


def _shrunk(number: int, shrink: float, height: int, width: int) -> np.ndarray:
    picture = _resized(number, None, shrink)
    if picture.shape[0] > height and picture.shape[1] > width:
        return picture
    return _enlarged(number, height, width)  # for images larger than CIFAR's


@functools.lru_cache(maxsize=12)
def _resized(number: int, size: tuple[int, int] | None, scale: float) -> np.ndarray:
    interpolation = cv2.INTER_LINEAR if size is None else cv2.INTER_CUBIC
    return cv2.resize(_picture(number), size, fx=scale, fy=scale, interpolation=interpolation)


@functools.lru_cache(maxsize=len(PICTURES))
def _picture(number: int) -> np.ndarray:
    found = importlib.util.find_spec('imagecorruptions')  # its import would take a second
    if found is None or found.origin is None:
        raise MmsharpError('the pictures of frost belong to imagecorruptions, which is not installed')
    path = Path(found.origin).parent / 'frost' / PICTURES[number]
    picture = cv2.imread(str(path))
    if picture is None:
        raise MmsharpError(f'cannot read the picture of frost {str(path)!r}; install imagecorruptions-imaug again')
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


@compiled('void(uint8[::1], uint8[::1], float64, float64, uint8[::1])')
def _blend(image: np.ndarray, crop: np.ndarray, image_weight: float, frost_weight: float, out: np.ndarray) -> None:
    for index in range(len(image)):
        value = image_weight * np.float64(image[index]) + frost_weight * np.float64(crop[index])
        out[index] = np.uint8(min(value, 255.0))
