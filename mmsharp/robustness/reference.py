"""The reference backend: the pixel functions of ``imagecorruptions`` themselves, with random numbers of our own.

Source of the functions and their severity constants: Hendrycks and Dietterich 2019 (arXiv 1903.12261), in the form that
Michaelis et al. 2019 (arXiv 1907.07484) gave them for images of any size. We add the seeding (see
:mod:`mmsharp.robustness.generators`). It takes several times as long as :mod:`mmsharp.robustness.pixels`, which is
tested against it.
"""

import contextlib
import io

import numpy as np

from mmsharp.robustness.generators import restored_numba, seeded_numpy

_SEED_BITS = {'impulse_noise': 128, 'glass_blur': 32}
"""Functions with a ``seed`` argument of their own, and how much of a seed their generator takes."""


def corrupt_by_reference(image: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """As :func:`mmsharp.robustness.corrupt`, for arguments that it has checked and severities from 1."""
    from imagecorruptions import corrupt  # slow to import: scikit-image and numba come with it

    keywords = {'seed': seed & ((1 << _SEED_BITS[name]) - 1)} if name in _SEED_BITS else {}
    numba_state = restored_numba() if name == 'glass_blur' else contextlib.nullcontext()
    # Two functions print a line where a rounded size does not fit, and then do the right thing; spatter divides by the
    # largest of an empty layer, which means that no drop fell.
    with seeded_numpy(seed), numba_state, contextlib.redirect_stdout(io.StringIO()), np.errstate(invalid='ignore'):
        result = corrupt(np.ascontiguousarray(image), severity=severity, corruption_name=name, **keywords)
    return np.ascontiguousarray(result)
