"""The exact bound on a failure probability after so many failures in so many draws."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import betaincinv

from mmsharp.errors import MmsharpError, shown

CONFIDENCE = 0.999
"""Per image, as Cohen et al. (ICML 2019) certify."""


def clopper_pearson_upper(failures: Any, draws: int, confidence: float = CONFIDENCE) -> np.ndarray:
    r"""The largest rate at which so few failures are not rarer than ``1 - confidence``.

        u(x) = sup { r : P(Binomial(n, r) <= x) >= 1 - confidence } = Beta^-1(confidence; x + 1, n - x),  u(n) = 1

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial" (Biometrika
    1934), one-sided. Whatever the true rate and the model, ``u`` is below it in at most ``1 - confidence`` of all
    repeats. It counts failures alone and takes nothing from how near the others came.

    Args:
        failures: ``x``, a count or an array of counts, 0 to ``draws``.
        draws: ``n``, independent of one another.
        confidence: In (0, 1); of each image by itself, not of all together.

    Returns:
        float64 of the shape of ``failures``.

    Raises:
        MmsharpError: A count is no whole number, or a count or the confidence is out of range.

    Example:
        >>> clopper_pearson_upper([0, 1000], 1000).round(5).tolist()
        [0.00688, 1.0]
    """
    counts = np.asarray(failures)
    whole = isinstance(draws, (int, np.integer)) and not isinstance(draws, bool)
    whole = whole and (counts.size == 0 or counts.dtype.kind in 'iu')
    if not whole or draws < 1 or (counts.size and (counts.min() < 0 or counts.max() > draws)):
        raise MmsharpError(
            f'failures {shown(failures)} in {shown(draws)} draws: expected whole numbers, one draw or more and 0 to '
            'that many failures'
        )
    if not 0 < confidence < 1:
        raise MmsharpError(f'confidence {confidence!r} is not between 0 and 1, such as {CONFIDENCE}')
    inside = np.minimum(counts, draws - 1)
    return np.where(counts == draws, 1.0, betaincinv(inside + 1.0, draws - inside, confidence))
