"""The part of a data set that is certified."""

import pytest

from mmsharp.errors import MmsharpError
from mmsharp.robustness.certification import choose_images


def test_chosen_images_are_a_fixed_part():
    """Rising, each once, the same for one seed and others for another."""
    chosen = choose_images(10_000, 500, 0)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == 500
    assert chosen == choose_images(10_000, 500, 0)
    assert chosen != choose_images(10_000, 500, 1)
    assert choose_images(5, 500, 0) == choose_images(5, None, 1) == [0, 1, 2, 3, 4]
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(MmsharpError, match='cannot be certified'):
            choose_images(5, wrong, 0)
