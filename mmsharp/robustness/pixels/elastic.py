"""Elastic transform.

Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261), in the form of ``imagecorruptions``, after Simard, Steinkraus
and Platt 2003. Pixels are interpolated at exact positions: ``cv2.remap`` would round them to 1/32 pixel.
"""

import cv2
import numpy as np

from mmsharp.robustness.pixels.compiled import compiled
from mmsharp.robustness.pixels.draws import Draws
from mmsharp.robustness.pixels.filters import smooth


def elastic_transform(image: np.ndarray, draws: Draws, strength: float, sigma: float, shift: float) -> np.ndarray:
    """Each pixel is fetched from a place nearby: x[y + dy, x + dx], with smoothed uniform numbers dx and dy.

    All constants are shares of the image's sides: displacements of up to ``strength`` times the height, smoothed with a
    Gaussian of ``sigma`` times height and width, after an affine transform that moves three points in the middle by up
    to ``shift`` times the shorter side (CIFAR-10-C's generator alone has it). Drawn are, where ``shift`` is not 0, the
    points' six numbers; then, always, dx and dy.
    """
    height, width = image.shape[:2]
    pixels = image.astype(np.float32)
    if shift:
        pixels = _moved(pixels, draws.uniform((3, 2)), shift * min(height, width))
    dx = _displacement(draws, (height, width), strength, sigma)
    dy = _displacement(draws, (height, width), strength, sigma)
    out = np.empty_like(image)
    _fetch(cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA), dx, dy, out)
    return out


def _displacement(draws: Draws, shape: tuple[int, int], strength: float, sigma: float) -> np.ndarray:
    numbers = draws.uniform(shape).astype(np.float32, copy=False) * np.float32(2) - np.float32(1)
    field = smooth(numbers, (sigma * shape[0], sigma * shape[1]), cv2.BORDER_REFLECT, truncate=3)
    field *= np.float32(strength * shape[0])
    return field


def _moved(pixels: np.ndarray, numbers: np.ndarray, reach: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    middle, third = np.array([height, width], dtype=np.float32) // 2, min(height, width) // 3
    points = np.stack([middle + third, np.array([middle[0] + third, middle[1] - third]), middle - third])
    points = points.astype(np.float32)
    shifted = points + ((2 * numbers.astype(np.float64) - 1) * reach).astype(np.float32)
    matrix = cv2.getAffineTransform(points, shifted)
    return cv2.warpAffine(pixels, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)


@compiled('int64(int64, int64)')
def _mirrored(index: int, length: int) -> int:
    """The index within an axis that goes on as its mirror image, (d c b a | a b c d | d c b a)."""
    period = 2 * length
    index %= period
    return index if index < length else period - 1 - index


@compiled('void(float32[:, :, ::1], float32[:, ::1], float32[:, ::1], uint8[:, :, ::1])')
def _fetch(pixels: np.ndarray, dx: np.ndarray, dy: np.ndarray, out: np.ndarray) -> None:
    height, width = dx.shape
    one = np.float32(1)
    for y in range(height):
        for x in range(width):
            # Sums in 64 bits: far from the origin those of 32 would lose what lies behind the point.
            down, across = y + np.float64(dy[y, x]), x + np.float64(dx[y, x])
            top, left = int(np.floor(down)), int(np.floor(across))
            b, d = np.float32(down - top), np.float32(across - left)
            a, c = one - b, one - d
            bottom, right = top + 1, left + 1
            if top < 0 or left < 0 or bottom >= height or right >= width:
                top, bottom = _mirrored(top, height), _mirrored(bottom, height)
                left, right = _mirrored(left, width), _mirrored(right, width)
            for channel in range(3):
                upper = c * pixels[top, left, channel] + d * pixels[top, right, channel]
                lower = c * pixels[bottom, left, channel] + d * pixels[bottom, right, channel]
                out[y, x, channel] = np.uint8(a * upper + b * lower + np.float32(2.0**-10))
