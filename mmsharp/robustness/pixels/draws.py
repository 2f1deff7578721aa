"""The random numbers that pixel functions ask for, in an order that each function's docstring fixes.

A pixel function draws from a :class:`Draws` and from nothing else, so another implementation of the same methods can
feed it other numbers: the tests hand in the very ones that the reference package draws from its several generators,
which makes random corruptions comparable pixel for pixel.
"""

from typing import Any, Protocol

import numpy as np

from mmsharp.robustness.pixels.poisson import poisson_counts


class Draws(Protocol):
    """What a pixel function may ask for."""

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal floats."""

    def uniform(self, shape: tuple[int, ...]) -> np.ndarray:
        """Floats from 0 up to 1."""

    def number(self, low: float, high: float) -> float:
        """One float from low up to high."""

    def integer(self, count: int) -> int:
        """One integer from 0 up to, but without, count."""

    def offsets(self, reach: int, shape: tuple[int, ...]) -> np.ndarray:
        """Integers from -reach up to, but without, reach, as int8."""

    def poisson(self, means: np.ndarray, levels: np.ndarray, largest: int) -> np.ndarray:
        """Counts with mean ``means[level]`` for every uint8 level, those above ``largest`` as ``largest``, uint16."""

    def impulses(self, shape: tuple[int, ...], amount: float) -> np.ndarray:
        """For every value 1 (pepper) or 2 (salt), each with half of the probability ``amount``, else 0, as uint8."""


class SeededDraws:
    """Random numbers of NumPy's SFC64 generator, seeded by all bits of a seed; no global state is touched.

    Example:
        >>> SeededDraws(2**100 + 7).integer(1000) == SeededDraws(2**100 + 7).integer(1000)
        True
        >>> SeededDraws(0).offsets(2, (2, 3)).dtype
        dtype('int8')
    """

    def __init__(self, seed: int) -> None:
        self._random: Any = np.random.Generator(np.random.SFC64(seed))

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normal floats of 32 bits."""
        return self._random.standard_normal(shape, dtype=np.float32)

    def uniform(self, shape: tuple[int, ...]) -> np.ndarray:
        """Floats of 32 bits from 0 up to 1."""
        return self._random.random(shape, dtype=np.float32)

    def number(self, low: float, high: float) -> float:
        """One float from low up to high."""
        return float(self._random.uniform(low, high))

    def integer(self, count: int) -> int:
        """One integer from 0 up to, but without, count."""
        return int(self._random.integers(count))

    def offsets(self, reach: int, shape: tuple[int, ...]) -> np.ndarray:
        """Integers from -reach up to, but without, reach."""
        return self._random.integers(-reach, reach, shape, dtype=np.int8)

    def poisson(self, means: np.ndarray, levels: np.ndarray, largest: int) -> np.ndarray:
        """Counts by inversion, from one draw of 32 bits per value; see :mod:`mmsharp.robustness.pixels.poisson`."""
        return poisson_counts(self._words(levels.shape), means, levels, largest)

    def impulses(self, shape: tuple[int, ...], amount: float) -> np.ndarray:
        """One draw of 32 bits per value: below half of the amount it is pepper, below the amount salt."""
        words = self._words(shape)
        spoilt = (words < round(amount * 2**32)).view(np.uint8)
        return spoilt + (spoilt & (words >= round(amount * 2**31)).view(np.uint8))

    def _words(self, shape: tuple[int, ...]) -> np.ndarray:
        return self._random.integers(0, 2**32, shape, dtype=np.uint32)
