"""Seed every generator that the reference functions draw from, and give the caller's random numbers back.

Read in ``imagecorruptions-imaug`` 1.1.5: most functions draw from NumPy's global generator; ``impulse_noise`` hands
its ``seed`` to scikit-image's ``random_noise`` (``numpy.random.default_rng``); ``glass_blur`` hands its ``seed`` to a
compiled function that seeds numba's own generator, which ``numpy.random.seed`` and ``get_state`` do not reach.
"""

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_LOCK = threading.RLock()


@contextmanager
def seeded_numpy(seed: int) -> Iterator[None]:
    """Run a block with NumPy's global generator seeded by all bits of ``seed``; its state is restored afterwards.

    The generator is one per process, so blocks of several threads wait for each other.

    Example:
        >>> with seeded_numpy(7):
        ...     first = np.random.rand()
        >>> with seeded_numpy(7):
        ...     print(first == np.random.rand())
        True
    """
    with _LOCK:
        state = np.random.get_state()
        np.random.seed(words(seed))
        try:
            yield
        finally:
            np.random.set_state(state)


@contextmanager
def restored_numba() -> Iterator[None]:
    """Run a block that may seed numba's generator of this thread; the generator's state is restored afterwards."""
    # numba has no public way to read this state; its own tests use these functions.
    helpers: Any = importlib.import_module('numba._helperlib')
    pointer = helpers.rnd_get_np_state_ptr()
    state = helpers.rnd_get_state(pointer)
    try:
        yield
    finally:
        helpers.rnd_set_state(pointer, state)


def words(seed: int) -> list[int]:
    """A seed of any size as words of 32 bits, the lowest first, as ``RandomState`` takes it.

    Example:
        >>> words(5 + 2**32)
        [5, 1]
    """
    found = []
    while True:
        found.append(seed & 0xFFFFFFFF)
        seed >>= 32
        if not seed:
            return found
