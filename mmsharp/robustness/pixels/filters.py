"""Filters that several corruptions share: Gaussian smoothing, and correlation with a few taps.

Both work on floats and keep them: OpenCV's 8-bit filters round, where the reference truncates at the very end.
"""

import cv2
import numpy as np

from mmsharp.robustness.pixels.compiled import compiled

FLAT = 2.0**-10
"""Added before truncation: a flat area keeps its grey level although sums of 32 bits may fall short of it."""


def gaussian_weights(sigma: float, truncate: float = 4.0) -> np.ndarray:
    """Weights exp(-x^2 / 2 sigma^2) at the integers up to ``truncate`` sigma, normalised, as SciPy's filters have them.

    Example:
        >>> gaussian_weights(0.5, truncate=2).round(4).tolist()
        [0.1065, 0.787, 0.1065]
        >>> gaussian_weights(0).tolist()
        [1.0]
    """
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return np.ones(1)
    weights = np.exp(-0.5 / sigma**2 * np.arange(-radius, radius + 1) ** 2)
    return weights / weights.sum()


def smooth(
    array: np.ndarray,
    sigma: float | tuple[float, float],
    border: int = cv2.BORDER_REPLICATE,
    truncate: float = 4.0,
    depth: int = cv2.CV_32F,
) -> np.ndarray:
    """Gaussian smoothing of rows and columns, by default with the borders of scikit-image's ``gaussian`` (nearest).

    Args:
        array: uint8 or float, of shape (height, width) or (height, width, channels).
        sigma: One, or one for the rows' direction (down) and one for the columns' (across).
        border: OpenCV's name for what lies beyond the image; SciPy's ``reflect`` is ``cv2.BORDER_REFLECT``.
        truncate: Where the weights end, in sigma.
        depth: OpenCV's name for the type of the result.
    """
    down, across = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    weights = gaussian_weights(across, truncate), gaussian_weights(down, truncate)
    return cv2.sepFilter2D(array, depth, *weights, borderType=border)


def smooth_bitwise(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing of an image, truncated to uint8, with the very bits of ``uint8(255 gaussian(image / 255))``.

    The same sums in the same order in 64 bits as SciPy's: down, then across, from the outermost weights to the centre.

    Args:
        image: uint8, of shape (height, width, channels).
        sigma: In pixels.
    """
    weights = gaussian_weights(sigma)
    out = np.empty_like(image)
    rows = image.shape[0], image.shape[1] * image.shape[2]
    _smooth_bitwise(image.reshape(rows) / 255.0, weights[len(weights) // 2 :], image.shape[2], out.reshape(rows))
    return out


def truncated(values: np.ndarray) -> np.ndarray:
    """Grey levels from 0 to 255 in floats, cut to whole numbers; see :data:`FLAT`."""
    return (values + np.float32(FLAT)).astype(np.uint8)


def correlate(image: np.ndarray, rows: np.ndarray, columns: np.ndarray, weights: np.ndarray, border: int) -> np.ndarray:
    """Return sum_i w_i image[y + row_i, x + column_i], in 32 bits.

    ``cv2.filter2D`` is faster for small kernels only: large ones go through a Fourier transform there, at any number of
    nonzero weights.

    Args:
        image: uint8 or float32, of shape (height, width) or (height, width, channels).
        rows: Integers, of shape (taps,).
        columns: Likewise.
        weights: Floats, of the same shape.
        border: OpenCV's name for what lies beyond the image.

    Returns:
        float32, of the image's shape.

    Example:
        >>> image = np.array([[1, 2, 3]], dtype=np.float32)
        >>> shifted = correlate(image, np.array([0, 0]), np.array([0, 1]), np.array([1.0, 10.0]), cv2.BORDER_REPLICATE)
        >>> shifted.tolist()
        [[21.0, 32.0, 33.0]]
    """
    channels = image.shape[2] if image.ndim == 3 else 1
    top, bottom, left, right = -min(rows.min(), 0), max(rows.max(), 0), -min(columns.min(), 0), max(columns.max(), 0)
    padded = cv2.copyMakeBorder(image.astype(np.float32), top, bottom, left, right, border)
    flat = padded.reshape(padded.shape[0], -1)
    missing = -len(weights) % TAPS_AT_ONCE
    out = np.empty((image.shape[0], image.shape[1] * channels), dtype=np.float32)
    _correlate(
        flat,
        np.pad(rows + top, (0, missing), mode='edge').astype(np.int64),
        np.pad((columns + left) * channels, (0, missing), mode='edge').astype(np.int64),
        np.pad(weights, (0, missing)).astype(np.float32),
        out,
    )
    return out.reshape(image.shape)


TAPS_AT_ONCE = 4


@compiled('void(float64[:, ::1], float64[::1], int64, uint8[:, ::1])')
def _smooth_bitwise(image: np.ndarray, weights: np.ndarray, channels: int, out: np.ndarray) -> None:
    height, width = image.shape
    radius = len(weights) - 1
    start = radius * channels
    line, total = np.empty(width + 2 * start), np.empty(width)
    for y in range(height):
        middle = line[start : start + width]
        for x in range(width):
            middle[x] = image[y, x] * weights[0]
        for tap in range(radius, 0, -1):
            above, below = image[max(y - tap, 0)], image[min(y + tap, height - 1)]
            for x in range(width):
                middle[x] += (above[x] + below[x]) * weights[tap]
        for x in range(start):
            line[x] = middle[x % channels]
            line[start + width + x] = middle[width - channels + x % channels]
        for x in range(width):
            total[x] = middle[x] * weights[0]
        for tap in range(radius, 0, -1):
            left, right = line[start - tap * channels :], line[start + tap * channels :]
            for x in range(width):
                total[x] += (left[x] + right[x]) * weights[tap]
        for x in range(width):
            out[y, x] = np.uint8(total[x] * 255)


@compiled('void(float32[:, ::1], int64[::1], int64[::1], float32[::1], float32[:, ::1])')
def _correlate(padded: np.ndarray, rows: np.ndarray, starts: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    height, width = out.shape
    for y in range(height):
        total = out[y]
        total[:] = 0
        for tap in range(0, len(weights), 4):
            w0, w1, w2, w3 = weights[tap], weights[tap + 1], weights[tap + 2], weights[tap + 3]
            s0, s1, s2, s3 = starts[tap], starts[tap + 1], starts[tap + 2], starts[tap + 3]
            r0 = padded[y + rows[tap], s0 : s0 + width]
            r1 = padded[y + rows[tap + 1], s1 : s1 + width]
            r2 = padded[y + rows[tap + 2], s2 : s2 + width]
            r3 = padded[y + rows[tap + 3], s3 : s3 + width]
            for x in range(width):
                total[x] += (w0 * r0[x] + w1 * r1[x]) + (w2 * r2[x] + w3 * r3[x])
