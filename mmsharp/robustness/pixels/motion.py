"""Blur along a line.

Source: ``imagecorruptions``, which put this in place of ImageMagick's motion blur in Hendrycks and Dietterich 2019.
"""

import math

import cv2
import numpy as np

from mmsharp.robustness.pixels.draws import Draws
from mmsharp.robustness.pixels.filters import correlate, truncated


def motion_blur(image: np.ndarray, draws: Draws, radius: int, sigma: float) -> np.ndarray:
    """Each pixel smears along a line of random direction; drawn is its angle, from -45 to 45 degrees."""
    return truncated(blur_along(image, radius, sigma, draws.number(-45, 45)))


def blur_along(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """Return sum_i w_i image[y + i sin(angle), x + i cos(angle)], with w half a Gaussian of 2 radius + 1 taps.

    Positions are rounded. Beyond the border the border's pixels repeat. Where the line is longer than the image, its
    far taps are missing, as in the reference, and the result is darker.

    Args:
        image: uint8 or float32, of shape (height, width) or (height, width, 3).
        radius: Half the length of the line.
        sigma: Of the weights.
        angle: In degrees.

    Returns:
        float32, of the image's shape.

    Example:
        >>> blur_along(np.array([[0, 3, 6]], dtype=np.float32), radius=1, sigma=1e9, angle=0).round(2).tolist()
        [[3.0, 5.0, 6.0]]
    """
    width = 2 * radius + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    rise, run = width * math.sin(math.radians(angle)), width * math.cos(math.radians(angle))
    length = math.hypot(rise, run)
    rows, columns = [], []
    for step in range(width):
        row, column = math.ceil(step * rise / length - 0.5), math.ceil(step * run / length - 0.5)
        if abs(row) >= image.shape[0] or abs(column) >= image.shape[1]:
            break
        rows.append(row)
        columns.append(column)
    return correlate(image, np.array(rows), np.array(columns), weights[: len(rows)], cv2.BORDER_REPLICATE)
