"""Zooming into the middle of an image, and the blur of doing so.

Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261), in the form of ``imagecorruptions``: SciPy's ``zoom`` of order
1, whose grid maps the first and last pixels onto each other. OpenCV's resizing has another grid, and ``cv2.remap``
rounds positions to 1/32 pixel.
"""

import functools
import math

import numpy as np

from mmsharp.robustness.pixels.compiled import compiled
from mmsharp.robustness.pixels.draws import Draws
from mmsharp.robustness.pixels.filters import truncated


def zoom_blur(image: np.ndarray, draws: Draws, stop: float, step: float) -> np.ndarray:
    """The mean of an image and its zoomed versions, by factors from 1 to ``stop``; nothing is drawn."""
    factors = np.arange(1, stop, step)
    height, width = image.shape[:2]
    pixels = image.reshape(height, -1).astype(np.float32)
    total = pixels.copy()
    for factor in factors.tolist():
        rows, columns = _axis(height, factor), _axis(width, factor)
        _add_zoomed(pixels, *rows, *columns, total)
    total *= np.float32(1 / (len(factors) + 1))
    return truncated(total.reshape(image.shape))


def clipped_zoom(layer: np.ndarray, factor: float) -> np.ndarray:
    """The middle of a float32 layer, enlarged by ``factor``; the result is as large as the layer or slightly larger.

    Example:
        >>> clipped_zoom(np.array([[0, 1], [2, 3]], dtype=np.float32), 1.0).tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    rows, columns = _axis(layer.shape[0], factor), _axis(layer.shape[1], factor)
    out = np.empty((len(rows[0]), len(columns[0])), dtype=np.float32)
    _zoom_layer(layer, *rows, *columns, out)
    return out


@functools.lru_cache(maxsize=256)
def _axis(length: int, factor: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every position of the zoomed axis the two it lies between, as index and weights.

    SciPy takes a last position that rounding has pushed beyond the end for outside, which is black: its weights are 0.
    """
    cropped = math.ceil(length / factor)
    size = round(cropped * factor)
    start = (length - cropped) // 2
    positions = np.arange(size) * ((cropped - 1) / (size - 1))
    below = np.minimum(positions.astype(np.int64), cropped - 2)
    upper = positions - below
    outside = positions > cropped - 1
    lower = np.where(outside, 0, 1 - upper).astype(np.float32)
    return below + start, lower, np.where(outside, 0, upper).astype(np.float32)


SIGNATURE = 'int64[::1], float32[::1], float32[::1], int64[::1], float32[::1], float32[::1]'


@compiled(f'void(float32[:, ::1], {SIGNATURE}, float32[:, ::1])')
def _add_zoomed(
    image: np.ndarray,
    rows: np.ndarray,
    row_lower: np.ndarray,
    row_upper: np.ndarray,
    columns: np.ndarray,
    column_lower: np.ndarray,
    column_upper: np.ndarray,
    total: np.ndarray,
) -> None:
    """Rows hold three values per pixel; indices of columns count pixels."""
    height, width = min(total.shape[0], len(rows)), min(total.shape[1] // 3, len(columns))
    first, last = 3 * columns[0], 3 * (columns[width - 1] + 2)
    between = np.empty(image.shape[1], dtype=np.float32)
    for y in range(height):
        above, below, line = image[rows[y], first:last], image[rows[y] + 1, first:last], total[y]
        middle = between[first:last]
        for index in range(len(middle)):
            middle[index] = row_lower[y] * above[index] + row_upper[y] * below[index]
        for x in range(width):
            here, left, a, b = 3 * x, 3 * columns[x], column_lower[x], column_upper[x]
            red = line[here] + (a * between[left] + b * between[left + 3])
            green = line[here + 1] + (a * between[left + 1] + b * between[left + 4])
            blue = line[here + 2] + (a * between[left + 2] + b * between[left + 5])
            line[here], line[here + 1], line[here + 2] = red, green, blue


@compiled(f'void(float32[:, ::1], {SIGNATURE}, float32[:, ::1])')
def _zoom_layer(
    layer: np.ndarray,
    rows: np.ndarray,
    row_lower: np.ndarray,
    row_upper: np.ndarray,
    columns: np.ndarray,
    column_lower: np.ndarray,
    column_upper: np.ndarray,
    out: np.ndarray,
) -> None:
    for y in range(out.shape[0]):
        above, below = layer[rows[y]], layer[rows[y] + 1]
        for x in range(out.shape[1]):
            left = columns[x]
            upper = column_lower[x] * above[left] + column_upper[x] * above[left + 1]
            lower = column_lower[x] * below[left] + column_upper[x] * below[left + 1]
            out[y, x] = row_lower[y] * upper + row_upper[y] * lower
