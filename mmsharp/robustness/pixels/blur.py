"""Blur without direction: Gaussian, defocus and glass.

Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261), in the form of ``imagecorruptions``. Departure: sums in 32
bits, and a flat area keeps its grey level, where the reference's rounding may take one.
"""

import functools

import cv2
import numpy as np

from mmsharp.robustness.pixels.compiled import compiled
from mmsharp.robustness.pixels.draws import Draws
from mmsharp.robustness.pixels.filters import correlate, smooth, smooth_bitwise, truncated


def gaussian_blur(image: np.ndarray, draws: Draws, sigma: float) -> np.ndarray:
    """Smoothing with a Gaussian of ``sigma`` pixels; nothing is drawn."""
    return truncated(smooth(image, sigma))


def defocus_blur(image: np.ndarray, draws: Draws, radius: float, alias_blur: float) -> np.ndarray:
    """Correlation with a disk of ``radius`` pixels whose edge is smoothed; nothing is drawn."""
    rows, columns, weights = _disk(radius, alias_blur)
    # Weights may sum to more than one: see _disk.
    return truncated(np.minimum(correlate(image, rows, columns, weights, cv2.BORDER_REFLECT_101), 255))


def glass_blur(image: np.ndarray, draws: Draws, sigma: float, reach: int, iterations: int) -> np.ndarray:
    """Smoothing, then every pixel takes the colour of one nearby, then smoothing again.

    Drawn are the offsets of all pixels of all iterations, from the last pixel to the first, across before down. The
    reference means to swap pixels, but copies: its tuple assignment works on views. So does this.
    """
    pixels = smooth_bitwise(image, sigma)  # a level that is lost here would be lost again below
    height, width = image.shape[:2]
    offsets = draws.offsets(reach, (iterations, height - 2 * reach, width - 2 * reach, 2))
    _scatter(pixels, np.ascontiguousarray(offsets), reach)
    return truncated(smooth(pixels, sigma))


@functools.lru_cache(maxsize=16)
def _disk(radius: float, alias_blur: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The taps of the reference's disk. It is smoothed within its own square, which mirrors what would leave it."""
    side, kernel = (8, 3) if radius <= 8 else (int(radius), 5)
    line = np.arange(-side, side + 1)
    down, across = np.meshgrid(line, line, indexing='ij')
    disk = (down**2 + across**2 <= radius**2).astype(np.float32)
    disk = cv2.GaussianBlur(disk / disk.sum(), (kernel, kernel), alias_blur)
    there = np.abs(disk) > 1e-9 * disk.max()
    return down[there], across[there], disk[there]


@compiled('void(uint8[:, :, ::1], int8[:, :, :, ::1], int64)')
def _scatter(pixels: np.ndarray, offsets: np.ndarray, reach: int) -> None:
    iterations, rows, columns = offsets.shape[:3]
    for iteration in range(iterations):
        for row in range(rows):
            y = pixels.shape[0] - reach - row
            for column in range(columns):
                x = pixels.shape[1] - reach - column
                across, down = offsets[iteration, row, column]
                for channel in range(3):
                    pixels[y, x, channel] = pixels[y + down, x + across, channel]
