"""The compiled loops do what the libraries do that the reference calls."""

import importlib
import pkgutil

import cv2
import numba.core.caching
import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher
from reference_pixels import picture
from scipy import ndimage, stats
from skimage.filters import gaussian

from mmsharp.robustness import pixels
from mmsharp.robustness.pixels.compiled import compiled
from mmsharp.robustness.pixels.draws import SeededDraws
from mmsharp.robustness.pixels.elastic import _mirrored
from mmsharp.robustness.pixels.filters import correlate, smooth, smooth_bitwise
from mmsharp.robustness.pixels.poisson import poisson_counts
from mmsharp.robustness.pixels.zoom import clipped_zoom

LOOPS = {
    f'{module.name}.{name}': value
    for module in pkgutil.iter_modules(pixels.__path__)
    for name, value in vars(importlib.import_module(f'{pixels.__name__}.{module.name}')).items()
    if isinstance(value, Dispatcher)
}


@pytest.mark.parametrize('name', LOOPS)
def test_loops_are_compiled_where_they_are_imported(name):
    """With fixed signatures, so that no worker compiles in the middle of an epoch; and kept on the disk."""
    loop = LOOPS[name]
    assert loop.signatures
    assert not loop._can_compile
    assert loop.stats.cache_path


def test_without_a_folder_for_the_cache_loops_are_compiled_all_the_same(monkeypatch):
    """An installation that nobody can write to, for a user without a home."""
    caching = numba.core.caching
    kinds = getattr(caching, 'CacheImpl', None) or caching._CacheImpl
    monkeypatch.setattr(kinds, '_locator_classes', [])

    @compiled('float64(float64)')
    def half(number):
        return number / 2

    assert half(3.0) == 1.5
    assert half.stats.cache_path is None


@pytest.mark.parametrize('mean', [0.0, 0.01, 3.0, 60.0, 500.0])
def test_counts_are_the_inverse_of_the_distribution_function(mean):
    """Those of SciPy, up to the last counts, which are cut off."""
    words = np.random.default_rng(0).integers(0, 2**32, 5000, dtype=np.uint32)
    words[0] = 2**32 - 1
    largest = int(mean + 3 * np.sqrt(mean)) + 1
    found = poisson_counts(words, np.full(256, mean), np.zeros(len(words), dtype=np.uint8), largest)
    expected = np.minimum(stats.poisson.ppf((words + 0.5) / 2**32, mean), largest)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize('shape', [(20, 31), (20, 31, 3)])
def test_correlation_is_scipys(shape):
    """Any taps, on both kinds of border."""
    random = np.random.default_rng(1)
    image = random.random(shape, dtype=np.float32)
    kernel = random.random((5, 9)) * (random.random((5, 9)) < 0.5)
    rows, columns = np.nonzero(kernel)
    for border, mode in ((cv2.BORDER_REPLICATE, 'nearest'), (cv2.BORDER_REFLECT_101, 'mirror')):
        found = correlate(image, rows - 2, columns - 4, kernel[rows, columns], border)
        whole = kernel.reshape(kernel.shape + (1,) * (len(shape) - 2))
        np.testing.assert_allclose(found, ndimage.correlate(image, whole, mode=mode), atol=1e-5)


@pytest.mark.parametrize('sigma', [(0.05, 0.05), (0.7, 0.7), (6.0, 6.0), (3.75, 5.0)])
def test_smoothing_is_scipys(sigma):
    """With the borders and the cut that each corruption takes."""
    image = np.random.default_rng(2).random((33, 40), dtype=np.float32)
    for border, mode, truncate in ((cv2.BORDER_REPLICATE, 'nearest', 4), (cv2.BORDER_REFLECT, 'reflect', 3)):
        expected = ndimage.gaussian_filter(image.astype(float), sigma, mode=mode, truncate=truncate)
        np.testing.assert_allclose(smooth(image, sigma, border, truncate), expected, atol=1e-5)


@pytest.mark.parametrize('sigma', [0.05, 0.4, 0.7, 1.1, 1.5])
def test_smoothing_before_a_second_truncation_is_the_references_bit_by_bit(sigma):
    """Also in flat areas, where rounding errors decide between a grey level and the one below."""
    for content in ('china.jpg', 'extremes', 'random'):
        image = picture(content, 41, 57)
        assert np.array_equal(
            smooth_bitwise(image, sigma), np.uint8(gaussian(image / 255.0, sigma, channel_axis=-1) * 255)
        )


@pytest.mark.parametrize('factor', [1.0, 1.01, 1.1, 1.27, 2.5, 4.5])
def test_zooming_is_scipys(factor):
    """Also where rounding pushes the last position beyond the end, which SciPy makes black."""
    random = np.random.default_rng(3)
    for shape in ((32, 47), (41, 57), (97, 131)):
        layer = random.random(shape, dtype=np.float32)
        height, width = (int(np.ceil(side / factor)) for side in shape)
        top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
        expected = ndimage.zoom(layer[top : top + height, left : left + width], factor, order=1)
        np.testing.assert_allclose(clipped_zoom(layer, factor), expected, atol=1e-5)


def test_mirrored_indices():
    """(d c b a | a b c d | d c b a), however far away."""
    assert [_mirrored(index, 4) for index in range(-5, 9)] == [3, 3, 2, 1, 0, 0, 1, 2, 3, 3, 2, 1, 0, 0]


def test_impulses_are_pepper_and_salt_alike():
    """Shares within four standard errors."""
    impulses = SeededDraws(4).impulses((1000, 1000), 0.06)
    for kind in (1, 2):
        assert abs((impulses == kind).mean() - 0.03) < 4 * np.sqrt(0.03 * 0.97) / 1000
    assert set(np.unique(impulses)) == {0, 1, 2}
