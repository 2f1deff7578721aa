"""Fog.

Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261), in the form of ``imagecorruptions``; the height map is a
"plasma fractal" by the diamond-square algorithm (Fournier, Fussell and Carpenter 1982).
"""

import numpy as np

from mmsharp.robustness.pixels.compiled import compiled
from mmsharp.robustness.pixels.draws import Draws


def fog(image: np.ndarray, draws: Draws, amplitude: float, decay: float) -> np.ndarray:
    """Return (x + amplitude h) m / (m + amplitude), with the height map h in [0, 1] and the image's largest value m.

    Drawn are the map's numbers; see :func:`plasma`. Its side is the power of two that holds the image.
    """
    heights = plasma(1 << (max(image.shape) - 1).bit_length(), decay, draws)
    largest = int(image.max()) / 255.0
    scale = largest / (largest + amplitude)
    out = np.empty_like(image)
    _veil(image, heights, np.float32(255 * amplitude), np.float32(scale), out)
    return out


def plasma(side: int, decay: float, draws: Draws) -> np.ndarray:
    """A height map from 0 to 1 by diamond-square on a torus.

    From the coarsest grid to the finest, every new point is the mean of its four neighbours plus w^2 u, with u uniform
    from -1 to 1 and w, at first 100, divided by ``decay`` from grid to grid. Drawn are the numbers u of all points but
    the first, in this order, at once.

    Args:
        side: A power of two.
        decay: How much smoother each finer grid is.
        draws: The random numbers.

    Returns:
        float32 of shape (side, side).

    Example:
        >>> from mmsharp.robustness.pixels.draws import SeededDraws
        >>> heights = plasma(16, 2.0, SeededDraws(0))
        >>> heights.shape, float(heights.min()), float(heights.max())
        ((16, 16), 0.0, 1.0)
    """
    numbers = draws.uniform((side * side - 1,)).astype(np.float32, copy=False)
    heights = np.zeros((side, side), dtype=np.float32)
    step, wibble, used = side, 100.0, 0
    while step >= 2:
        count = 3 * (side // step) ** 2
        _refine(heights, numbers[used : used + count], step, np.float32(wibble**2))
        used += count
        step //= 2
        wibble /= decay
    heights -= heights.min()
    heights /= heights.max()
    return heights


@compiled('void(float32[:, ::1], float32[::1], int64, float32)')
def _refine(heights: np.ndarray, numbers: np.ndarray, step: int, scale: np.float32) -> None:
    side, half = heights.shape[0], step // 2
    quarter, one, two = np.float32(0.25), np.float32(1), np.float32(2)
    index = 0
    for y in range(0, side, step):  # middles of the squares
        below = (y + step) % side
        for x in range(0, side, step):
            right = (x + step) % side
            total = heights[y, x] + heights[below, x] + heights[y, right] + heights[below, right]
            heights[y + half, x + half] = total * quarter + scale * (two * numbers[index] - one)
            index += 1
    for y in range(0, side, step):  # middles of the upper edges
        above = (y - half) % side
        for x in range(0, side, step):
            middle = x + half
            total = heights[y + half, middle] + heights[above, middle] + heights[y, x] + heights[y, (x + step) % side]
            heights[y, middle] = total * quarter + scale * (two * numbers[index] - one)
            index += 1
    for y in range(0, side, step):  # middles of the left edges
        middle = y + half
        for x in range(0, side, step):
            total = heights[middle, x + half] + heights[middle, (x - half) % side]
            total += heights[y, x] + heights[(y + step) % side, x]
            heights[middle, x] = total * quarter + scale * (two * numbers[index] - one)
            index += 1


@compiled('void(uint8[:, :, ::1], float32[:, ::1], float32, float32, uint8[:, :, ::1])')
def _veil(image: np.ndarray, heights: np.ndarray, amplitude: np.float32, scale: np.float32, out: np.ndarray) -> None:
    white = np.float32(255)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            veil = amplitude * heights[y, x]
            for channel in range(3):
                value = (np.float32(image[y, x, channel]) + veil) * scale
                out[y, x, channel] = np.uint8(min(value, white))
