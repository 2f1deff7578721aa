"""Corrupt an image: the pixel functions of ``imagecorruptions``, with random numbers of our own.

Source of the functions and their severity constants: Hendrycks and Dietterich 2019 (arXiv 1903.12261), in the form that
Michaelis et al. 2019 (arXiv 1907.07484) gave them for images of any size. We add the seeding (see
:mod:`mmsharp.robustness.generators`), severity 0, and refusals instead of silent conversions.
"""

import contextlib
import io

import numpy as np

from mmsharp.errors import MmsharpError
from mmsharp.robustness.corruptions import check_name, check_severity
from mmsharp.robustness.generators import restored_numba, seeded_numpy

SMALLEST_SIDE = 32
BACKEND = 'imagecorruptions'
CONSTANTS = 'imagenet'
"""Which severity constants are used; recorded with every result, because those of CIFAR-10-C are milder."""

_SEED_BITS = {'impulse_noise': 128, 'glass_blur': 32}
"""Functions with a ``seed`` argument of their own, and how much of a seed their generator takes."""


def corrupt(image: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """Return the image spoilt by one corruption; equal arguments give bitwise equal results in any process and order.

    Args:
        image: RGB image, uint8, of shape (height, width, 3), both sides at least 32 pixels. It is not changed.
        name: One of the 19 corruptions of :data:`mmsharp.robustness.NAMES`.
        severity: 0 (returns a copy of the image) to 5.
        seed: Non-negative integer; see :func:`mmsharp.robustness.cell_seed`.

    Returns:
        A new RGB image of the same shape, uint8.

    Raises:
        MmsharpError: If the image is no uint8 RGB image of at least 32 pixels a side, or a name, severity or seed is
            out of range.

    Example:
        >>> image = np.full((40, 48, 3), 100, dtype=np.uint8)
        >>> corrupt(image, 'contrast', 3, seed=0).shape
        (40, 48, 3)
        >>> bool((corrupt(image, 'gaussian_noise', 0, seed=0) == image).all())
        True
    """
    check_name(name)
    check_severity(severity)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise MmsharpError(f'seed {seed!r} of corruption {name} is not a non-negative integer')
    check_image(image)
    if severity == 0:
        return image.copy()
    from imagecorruptions import corrupt as reference  # slow to import: scikit-image and numba come with it

    keywords = {'seed': seed & ((1 << _SEED_BITS[name]) - 1)} if name in _SEED_BITS else {}
    numba_state = restored_numba() if name == 'glass_blur' else contextlib.nullcontext()
    # Two functions print a line where a rounded size does not fit, and then do the right thing; spatter divides by the
    # largest of an empty layer, which means that no drop fell.
    with seeded_numpy(seed), numba_state, contextlib.redirect_stdout(io.StringIO()), np.errstate(invalid='ignore'):
        result = reference(np.ascontiguousarray(image), severity=severity, corruption_name=name, **keywords)
    return np.ascontiguousarray(result)


def check_image(image: np.ndarray) -> None:
    """Refuse what the corruption functions would misread or silently convert.

    Raises:
        MmsharpError: Naming the type, dtype, shape or size that was found and what is expected.

    Example:
        >>> check_image(np.zeros((32, 32, 3), dtype=np.uint8))
    """
    expected = 'expected an RGB image: numpy array of uint8, shape (height, width, 3)'
    if not isinstance(image, np.ndarray):
        raise MmsharpError(f'cannot corrupt a {type(image).__name__}; {expected}')
    if image.dtype != np.uint8:
        raise MmsharpError(
            f'cannot corrupt an image of {image.dtype}; {expected}. '
            'Corrupt before normalisation, and load with to_float32=False'
        )
    if image.ndim != 3 or image.shape[2] != 3:
        raise MmsharpError(f"cannot corrupt an image of shape {image.shape}; {expected}. Load with color_type='color'")
    if min(image.shape[:2]) < SMALLEST_SIDE:
        raise MmsharpError(
            f'cannot corrupt an image of {image.shape[1]}x{image.shape[0]} pixels: '
            f'the corruptions are defined from {SMALLEST_SIDE} pixels a side; resize the images first'
        )
