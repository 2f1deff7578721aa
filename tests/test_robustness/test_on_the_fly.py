"""The settings decide the pixels together with image and cell, and nothing else does."""

import numpy as np
import pytest

from mmsharp.errors import MmsharpError
from mmsharp.robustness import Cell, OnTheFly, cell_seed, corrupt

IMAGE = np.random.RandomState(0).randint(0, 256, (40, 48, 3), dtype=np.uint8)
CELL = Cell('spatter', 4)


def test_it_is_the_pixel_function_with_the_seed_of_the_cell():
    """RGB in, RGB out; and BGR in, BGR out with the same colours."""
    expected = corrupt(IMAGE, 'spatter', 4, cell_seed(7, 'one', 'spatter', 4))
    assert np.array_equal(OnTheFly(seed=7).image(IMAGE, 'rgb', 'one', CELL), expected)
    assert np.array_equal(OnTheFly(seed=7).image(IMAGE[..., ::-1], 'bgr', 'one', CELL)[..., ::-1], expected)
    given_bgr = OnTheFly(seed=7, channel_order='bgr').image(IMAGE, 'bgr', 'one', CELL)
    assert np.array_equal(given_bgr, expected)


def test_seed_name_and_cell_each_change_the_noise():
    """Three other images."""
    cell = Cell('gaussian_noise', 1)
    images = [
        OnTheFly(seed=seed).image(IMAGE, 'rgb', name, Cell('gaussian_noise', level))
        for seed, name, level in ((0, 'one', 1), (1, 'one', 1), (0, 'two', 1), (0, 'one', 2))
    ]
    assert len({image.tobytes() for image in images}) == 4
    assert np.array_equal(OnTheFly().image(IMAGE, 'rgb', 'one', cell), images[0])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'seed': 1.0}, 'seed 1.0 is not'),
        ({'seed': True}, 'seed True is not'),
        ({'channel_order': 'grb'}, "channel_order 'grb' is neither"),
        ({'backend': 'imgaug'}, "backend 'imgaug'"),
        ({'constants': 'coco'}, "constants 'coco'"),
    ],
)
def test_bad_settings_are_refused_at_once(arguments, message):
    """Named, with the value."""
    with pytest.raises(MmsharpError, match=message):
        OnTheFly(**arguments)
