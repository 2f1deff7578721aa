"""Poisson counts by inversion of the distribution function, for many values of few different means.

An image has 256 grey levels, so a table of F(k) = P(count <= k) per level serves all its values: the count of a draw u
is the smallest k with u < F(k). A guide table holds, for the upper eight bits of u, the k where the search begins
(Chen and Asau 1974), which leaves about one comparison per value. F is kept in 32 bits, as the draws are.
"""

import functools
import math

import numpy as np

from mmsharp.robustness.pixels.compiled import compiled

GUIDES = 256


def poisson_counts(words: np.ndarray, means: np.ndarray, levels: np.ndarray, largest: int) -> np.ndarray:
    """Turn draws of 32 bits into Poisson counts.

    Args:
        words: uint32, one per value.
        means: The mean per level, 256 floats.
        levels: uint8, the level of every value, of the shape of ``words``.
        largest: Counts above it are returned as it.

    Returns:
        uint16, of the shape of ``words``.

    Example:
        >>> means = np.full(256, 2.0)
        >>> words = (np.array([0.1, 0.2, 0.5, 0.99]) * 2**32).astype(np.uint32)  # F is 0.135, 0.406, 0.677, ...
        >>> poisson_counts(words, means, np.zeros(4, dtype=np.uint8), largest=4).tolist()
        [0, 1, 2, 4]
    """
    bounds, guide = _tables(means.tobytes(), largest)
    counts = np.empty(words.shape, dtype=np.uint16)
    _invert(words.reshape(-1), levels.reshape(-1), bounds, guide, counts.reshape(-1))
    return counts


@functools.lru_cache(maxsize=16)
def _tables(means: bytes, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """F(k) in units of 2**-32 for k up to ``largest``, where it is all that is left, and the guide table."""
    rates = np.frombuffer(means)[:, None]
    counts = np.arange(largest)
    factorials = np.array([math.lgamma(count + 1) for count in counts])
    with np.errstate(divide='ignore', invalid='ignore'):
        logarithms = np.where(counts == 0, 0.0, counts * np.log(rates))
    below = np.minimum(np.exp(logarithms - rates - factorials).cumsum(axis=1), 1) * 2**32
    bounds = np.hstack([below, np.full((len(rates), 1), 2**32)]).astype(np.int64)
    starts = np.arange(GUIDES) << 24
    guide = np.stack([np.searchsorted(row, starts, side='right') for row in bounds]).astype(np.uint16)
    return bounds, guide


@compiled('void(uint32[::1], uint8[::1], int64[:, ::1], uint16[:, ::1], uint16[::1])')
def _invert(words: np.ndarray, levels: np.ndarray, bounds: np.ndarray, guide: np.ndarray, counts: np.ndarray) -> None:
    last = bounds.shape[1] - 1
    for index in range(len(words)):
        word, level = np.int64(words[index]), levels[index]
        count = guide[level, word >> 24]
        while count < last and word >= bounds[level, count]:
            count += 1
        counts[index] = count
