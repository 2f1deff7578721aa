"""Noise: Gaussian, speckle, shot and impulse.

Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261), in the form of ``imagecorruptions``. Grey levels are truncated
to whole numbers, as there. Departure: sums are taken in 32 bits.
"""

import functools

import numpy as np

from mmsharp.robustness.pixels.draws import Draws


def gaussian_noise(image: np.ndarray, draws: Draws, scale: float) -> np.ndarray:
    """Return x + 255 scale n, clipped, with n standard normal for every value.

    Example:
        >>> from mmsharp.robustness.pixels.draws import SeededDraws
        >>> noisy = gaussian_noise(np.full((64, 64, 3), 128, dtype=np.uint8), SeededDraws(0), 0.1)
        >>> 24 < float(noisy.std()) < 27
        True
    """
    noise = draws.normal(image.shape).astype(np.float32, copy=False)
    noise *= np.float32(255 * scale)
    noise += image
    return _truncated(noise)


def speckle_noise(image: np.ndarray, draws: Draws, scale: float) -> np.ndarray:
    """Return x + x scale n, clipped, with n standard normal for every value."""
    noise = draws.normal(image.shape).astype(np.float32, copy=False)
    noise *= np.float32(scale)
    noise += 1
    noise *= image
    return _truncated(noise)


def shot_noise(image: np.ndarray, draws: Draws, rate: float) -> np.ndarray:
    """Return 255 k / rate, clipped, with a Poisson count k of mean rate x / 255 for every value."""
    means, grey = _shots(rate)
    counts = draws.poisson(means, image, len(grey) - 1)
    return grey[counts]


def impulse_noise(image: np.ndarray, draws: Draws, amount: float) -> np.ndarray:
    """A share of all values becomes 0 or 255, each with half of the probability."""
    impulses = draws.impulses(image.shape, amount)
    kept = image * (impulses == 0)
    kept += (impulses == 2).view(np.uint8) * np.uint8(255)
    return kept


@functools.lru_cache(maxsize=16)
def _shots(rate: float) -> tuple[np.ndarray, np.ndarray]:
    """The mean count per grey level, and the grey level per count up to the one that is white."""
    counts = np.arange(int(np.ceil(rate)) + 1)
    return np.arange(256) / 255.0 * rate, (np.clip(counts / float(rate), 0, 1) * 255).astype(np.uint8)


def _truncated(values: np.ndarray) -> np.ndarray:
    np.clip(values, 0, 255, out=values)
    return values.astype(np.uint8)
