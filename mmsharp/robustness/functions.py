"""Corrupt an image: severities, seeds, backends and constants, all checked at one door.

The pixel functions are ours (:mod:`mmsharp.robustness.pixels`) or those of ``imagecorruptions``
(:mod:`mmsharp.robustness.reference`), which ours are tested against; the same random numbers give the same pixels
within one grey level, but the two draw different ones.
"""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from mmsharp.errors import MmsharpError
from mmsharp.robustness.constants import TABLES, Constants, check_constants, constants_for
from mmsharp.robustness.corruptions import check_name, check_severity
from mmsharp.robustness.reference import corrupt_by_reference

SMALLEST_SIDE = 32
Backend = Literal['mmsharp', 'imagecorruptions']
BACKENDS: tuple[Backend, ...] = ('mmsharp', 'imagecorruptions')


class TooSmallImageError(MmsharpError):
    """An image has a side below 32 pixels, from which on the corruptions are defined."""


def corrupt(
    image: np.ndarray,
    name: str,
    severity: int,
    seed: int,
    backend: Backend = 'mmsharp',
    constants: Constants = 'auto',
) -> np.ndarray:
    """Return the image spoilt by one corruption; equal arguments give bitwise equal results in any process and order.

    Args:
        image: RGB image, uint8, of shape (height, width, 3), both sides at least 32 pixels. It is not changed.
        name: One of the 19 corruptions of :data:`mmsharp.robustness.NAMES`.
        severity: 0 (returns a copy of the image) to 5.
        seed: Non-negative integer; see :func:`mmsharp.robustness.cell_seed`.
        backend: Whose pixel functions. Ours touch no global random state; the other's is given back.
        constants: What the severities mean: ``'imagenet'``, ``'cifar'``, or ``'auto'``, which is ``'cifar'`` for images
            of 32x32 pixels and ``'imagenet'`` for all others. ``'imagecorruptions'`` has the former only, and takes
            them for ``'auto'`` at every size.

    Returns:
        A new RGB image of the same shape, uint8.

    Raises:
        MmsharpError: If the image is no uint8 RGB image of at least 32 pixels a side, or another argument is out of
            range.

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
    settle_constants(backend, constants)
    check_image(image)
    if severity == 0:
        return image.copy()
    if backend == 'imagecorruptions':
        return corrupt_by_reference(image, name, severity, seed)
    from mmsharp.robustness.pixels import FUNCTIONS, SeededDraws  # compiles, or reads what was compiled

    values = TABLES[constants_for(constants, image.shape)][name][severity - 1]
    pixels = np.require(image, requirements=('C', 'A', 'W'))  # what compiled loops take; a copy where it has to be
    return FUNCTIONS[name](pixels, SeededDraws(seed), *values)


def settle_constants(backend: str, constants: str) -> str:
    """Check what a user asked for, and name the constants that decide: those of the backend where it has but one set.

    Raises:
        MmsharpError: If backend or constants do not exist, or the backend lacks the constants.

    Example:
        >>> settle_constants('mmsharp', 'auto'), settle_constants('imagecorruptions', 'auto')
        ('auto', 'imagenet')
    """
    if backend not in BACKENDS:
        raise MmsharpError(f'backend {backend!r} is none of {", ".join(map(repr, BACKENDS))}')
    check_constants(constants)
    if backend == 'imagecorruptions':
        if constants == 'cifar':
            raise MmsharpError(
                "backend 'imagecorruptions' has no constants 'cifar', only 'imagenet'; take backend 'mmsharp'"
            )
        return 'imagenet'
    return constants


def prepare(names: Iterable[str], backend: Backend = 'mmsharp') -> None:
    """Import and compile what corruptions need, in this process; workers that are forked later find it done.

    Example:
        >>> prepare(['fog', 'frost'])
    """
    for name in names:
        corrupt(np.zeros((SMALLEST_SIDE, SMALLEST_SIDE, 3), dtype=np.uint8), name, 1, 0, backend)


def check_image(image: np.ndarray) -> None:
    """Refuse what the corruption functions would misread or silently convert.

    Raises:
        MmsharpError: Naming the type, dtype, shape or size that was found and what is expected; as
            :class:`TooSmallImageError` if it is the size.

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
    check_size(image)


def check_size(image: np.ndarray) -> None:
    """Refuse an image that is too small for the corruptions.

    Raises:
        TooSmallImageError: With its width and height.

    Example:
        >>> check_size(np.zeros((20, 48, 3), dtype=np.uint8))
        Traceback (most recent call last):
        mmsharp.robustness.functions.TooSmallImageError: cannot corrupt an image of 48x20 pixels: ...
    """
    if min(image.shape[:2]) < SMALLEST_SIDE:
        raise TooSmallImageError(
            f'cannot corrupt an image of {image.shape[1]}x{image.shape[0]} pixels: '
            f'the corruptions are defined from {SMALLEST_SIDE} pixels a side; resize the images first'
        )
