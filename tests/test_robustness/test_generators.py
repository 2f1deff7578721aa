"""Generators are given back whatever happens."""

import numpy as np
import pytest

from mmsharp.robustness.generators import seeded_numpy


def test_state_is_restored_after_an_exception():
    """A failing block leaves NumPy's generator as it was."""
    np.random.seed(1)
    expected = np.random.rand()
    np.random.seed(1)
    with pytest.raises(ZeroDivisionError), seeded_numpy(2):
        np.random.randint(1) / 0
    assert np.random.rand() == expected


def test_all_bits_of_the_seed_count():
    """Seeds that agree in their lowest 32 bits draw different numbers."""
    draws = set()
    for seed in (5, 5 + 2**32, 5 + 2**96):
        with seeded_numpy(seed):
            draws.add(np.random.rand())
    assert len(draws) == 3
