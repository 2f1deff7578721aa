"""Random parameters of an image's transforms, which depend on seed, image and transform alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmsharp.robustness.certification.transforms import ImageTransform
from mmsharp.robustness.seeds import cell_seed


def draw_parameters(transform: ImageTransform, image: str, draws: int, seed: int = 0) -> Tensor:
    """Parameters of so many transformed copies of an image.

    The generator is NumPy's PCG64 under the seed of :func:`mmsharp.robustness.cell_seed` for (seed, image, transform).
    So the draws are the same whatever the batch size, order, device or number of processes; more draws begin with the
    fewer ones.

    Args:
        transform: What to draw for.
        image: A name of the image that is the same on every machine.
        draws: How many.
        seed: Of the whole certification.

    Returns:
        Shape (draws, transform.dimensions), float64, on the CPU.

    Example:
        >>> from mmsharp.robustness.certification.transforms import Rotation
        >>> draw_parameters(Rotation(10), 'a.png', 3).shape
        torch.Size([3, 1])
    """
    generator = np.random.Generator(np.random.PCG64(cell_seed(seed, image, str(transform), 0)))
    return transform.parameters(torch.from_numpy(generator.random((draws, transform.dimensions))))
