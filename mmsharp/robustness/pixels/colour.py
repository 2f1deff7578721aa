"""Colour and light: brightness, contrast and saturation, by look-up tables.

Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261), in the form of ``imagecorruptions``. There, brightness and
saturation go through HSV and back. With V the largest and m the smallest of a pixel's three values, S = (V - m) / V,
and what the way there and back does to each value x can be written down without it.
"""

import functools

import cv2
import numpy as np

from mmsharp.robustness.pixels.compiled import compiled
from mmsharp.robustness.pixels.draws import Draws


def contrast(image: np.ndarray, draws: Draws, factor: float) -> np.ndarray:
    """Return (x - mean) factor + mean, clipped, with the mean of each channel; nothing is drawn."""
    means = np.array(cv2.mean(image)[:3]) / 255
    levels = np.arange(256)[:, None] / 255.0
    table = (np.clip((levels - means) * factor + means, 0, 1) * 255).astype(np.uint8)
    return cv2.LUT(image, table[None])


def brightness(image: np.ndarray, draws: Draws, added: float) -> np.ndarray:
    """Return x V' / V with V' = min(V + added, 1), black becoming grey; nothing is drawn.

    Example:
        >>> brightness(np.array([[[0, 51, 102]]], dtype=np.uint8), None, 0.2).tolist()
        [[[0, 76, 153]]]
    """
    out = np.empty_like(image)
    _look_up(image, _brightened(added), out)
    return out


def saturate(image: np.ndarray, draws: Draws, scale: float, added: float) -> np.ndarray:
    """Return V - (V - x) S' / S with S' = clip(scale S + added, 0, 1); nothing is drawn.

    A grey pixel has no hue; HSV takes it for red, so that its green and blue become V (1 - S').

    Example:
        >>> saturate(np.array([[[0, 50, 100], [80, 80, 80]]], dtype=np.uint8), None, 0.5, 0.2).tolist()
        [[[30, 65, 100], [80, 64, 64]]]
    """
    out = np.empty_like(image)
    _saturate(image, scale, added, out)
    return out


@functools.lru_cache(maxsize=16)
def _brightened(added: float) -> np.ndarray:
    """What becomes of a value (second axis) in a pixel whose largest value is V (first axis)."""
    values = np.arange(256)
    raised = np.clip(values / 255 + added, 0, 1) * 255
    with np.errstate(invalid='ignore', divide='ignore'):
        table = raised[:, None] * (values / values[:, None])
    table[0] = raised[0]
    return np.where(values <= values[:, None], table, 0).astype(np.uint8)


@compiled('void(uint8[:, :, ::1], uint8[:, ::1], uint8[:, :, ::1])')
def _look_up(image: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            row = table[max(r, max(g, b))]
            out[y, x, 0], out[y, x, 1], out[y, x, 2] = row[r], row[g], row[b]


@compiled('void(uint8[:, :, ::1], float64, float64, uint8[:, :, ::1])')
def _saturate(image: np.ndarray, scale: float, added: float, out: np.ndarray) -> None:
    flat = 2.0**-10  # whole values stay whole
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            r, g, b = float(image[y, x, 0]), float(image[y, x, 1]), float(image[y, x, 2])
            largest, spread = max(r, max(g, b)), max(r, max(g, b)) - min(r, min(g, b))
            if spread == 0:
                pale = largest * (1 - min(added, 1.0)) + flat
                out[y, x, 0] = image[y, x, 0]
                out[y, x, 1] = out[y, x, 2] = np.uint8(pale)
            else:
                ratio = min(scale + added * largest / spread, largest / spread)
                out[y, x, 0] = np.uint8(largest - (largest - r) * ratio + flat)
                out[y, x, 1] = np.uint8(largest - (largest - g) * ratio + flat)
                out[y, x, 2] = np.uint8(largest - (largest - b) * ratio + flat)
