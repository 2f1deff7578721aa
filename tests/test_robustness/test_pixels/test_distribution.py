"""Our own random numbers give the reference's distribution, by two-sample Kolmogorov-Smirnov tests with fixed seeds.

Values of an image hang together in most corruptions, so the samples are numbers of which each picture gives one: mean,
standard deviation, the middle value and the mean difference of neighbours, over many seeds. Where all values of an
image are independent, its values are compared as well. With fixed seeds nothing here is left to chance; what the tests
can tell apart is tested too.
"""

import numpy as np
import pytest
from reference_pixels import picture
from scipy.stats import ks_2samp

from mmsharp.robustness import corrupt

INDEPENDENT = ('gaussian_noise', 'shot_noise', 'impulse_noise', 'speckle_noise')
RANDOM = (*INDEPENDENT, 'glass_blur', 'motion_blur', 'snow', 'frost', 'fog', 'elastic_transform', 'spatter')
DRAWS = 60
UNLIKELY = 1e-3
SIZE = (48, 64)


def numbers(name, severity, backend):
    """Four numbers per seed: of shape (4, DRAWS)."""
    image = picture('china.jpg', *SIZE)
    shift = 1000 if backend == 'mmsharp' else 0
    pictures = np.stack([corrupt(image, name, severity, seed + shift, backend) for seed in range(DRAWS)]).astype(float)
    return np.stack(
        [
            pictures.mean(axis=(1, 2, 3)),
            pictures.std(axis=(1, 2, 3)),
            pictures[:, SIZE[0] // 2, SIZE[1] // 2, 1],
            np.abs(np.diff(pictures, axis=2)).mean(axis=(1, 2, 3)),
        ]
    )


def alike(first, second):
    """Whether no statistic tells two samples apart."""
    return min(ks_2samp(one, other).pvalue for one, other in zip(first, second, strict=True)) > UNLIKELY


@pytest.mark.parametrize('name', RANDOM)
def test_pictures_are_distributed_as_the_references(name):
    """Over seeds, four statistics of a picture come from the same distribution; those of another severity do not."""
    found, expected = numbers(name, 3, 'mmsharp'), numbers(name, 3, 'imagecorruptions')
    assert alike(found, expected)
    assert not alike(numbers(name, 1, 'mmsharp'), expected)


@pytest.mark.parametrize('severity', [1, 5])
@pytest.mark.parametrize('name', INDEPENDENT)
def test_values_are_distributed_as_the_references(name, severity):
    """All values at one grey level of many pixels: distribution, mean and variance."""
    image = np.full((200, 300, 3), 90, dtype=np.uint8)
    found = corrupt(image, name, severity, 1).ravel().astype(float)
    expected = corrupt(image, name, severity, 2, 'imagecorruptions').ravel().astype(float)
    assert ks_2samp(found, expected).pvalue > UNLIKELY
    error = expected.std() * np.sqrt(2 / len(expected))
    assert abs(found.mean() - expected.mean()) < 4 * error
    assert abs(found.var() / expected.var() - 1) < 0.05


def test_a_little_more_noise_is_noticed():
    """The test of values rejects noise that is 3 % stronger."""
    image = np.full((200, 300, 3), 128, dtype=np.uint8)
    expected = corrupt(image, 'gaussian_noise', 1, 2, 'imagecorruptions').ravel().astype(float)
    assert ks_2samp(128 + (expected - 128) * 1.03, expected).pvalue < UNLIKELY


@pytest.mark.parametrize('name', RANDOM)
def test_every_bit_of_the_seed_counts(name):
    """Seeds that agree in their lowest 64 bits give other pictures."""
    image = picture('china.jpg', *SIZE)
    # Of frost a handful of seeds may draw the same picture and crop; not six of them.
    results = {corrupt(image, name, 5, 3 + (high << 64)).tobytes() for high in range(6)}
    assert len(results) > 1
