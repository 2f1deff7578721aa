"""Which part of a data set is certified."""

from __future__ import annotations

import numpy as np

from mmsharp.errors import MmsharpError, shown
from mmsharp.robustness.seeds import cell_seed

IMAGES = 500
"""As the published script takes."""


def choose_images(total: int, wanted: int | None, seed: int) -> list[int]:
    """Indices of a random part of a data set, rising; all where no more is wanted than there is.

    The first images of a data set are no sample of it: folders are sorted by class.

    Args:
        total: Images of the data set.
        wanted: How many to take; ``None`` for all.
        seed: Of the whole certification.

    Raises:
        MmsharpError: None are wanted.

    Example:
        >>> choose_images(3, None, 0), len(choose_images(1000, 10, 0))
        ([0, 1, 2], 10)
    """
    if wanted is not None and (not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1):
        raise MmsharpError(
            f'{shown(wanted)} images cannot be certified; give a whole number from 1 on, or None for all'
        )
    if wanted is None or wanted >= total:
        return list(range(total))
    generator = np.random.Generator(np.random.PCG64(cell_seed(seed, 'images', 'certification', 0)))
    return sorted(generator.choice(total, wanted, replace=False).tolist())
