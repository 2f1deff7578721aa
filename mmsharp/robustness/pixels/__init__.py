"""The pixel functions of all corruptions: fast, and with no random numbers but those that they are handed.

Each takes an RGB image (uint8, contiguous, of shape (height, width, 3)), a :class:`~.draws.Draws` and its constants
(see :mod:`mmsharp.robustness.constants`), and returns a new image. They agree with ``imagecorruptions`` within one grey
level on at least 99.9 % of all values where the same random numbers are fed in, which tests/test_robustness/test_pixels
states and checks; where they depart from it on purpose, they say so.

Importing this package compiles its loops, or reads them from numba's cache: see :mod:`.compiled`.
"""

from collections.abc import Callable

import numpy as np

from mmsharp.robustness.pixels.blur import defocus_blur, gaussian_blur, glass_blur
from mmsharp.robustness.pixels.colour import brightness, contrast, saturate
from mmsharp.robustness.pixels.draws import Draws, SeededDraws
from mmsharp.robustness.pixels.elastic import elastic_transform
from mmsharp.robustness.pixels.encoding import jpeg_compression, pixelate
from mmsharp.robustness.pixels.fog import fog
from mmsharp.robustness.pixels.frost import frost
from mmsharp.robustness.pixels.motion import motion_blur
from mmsharp.robustness.pixels.noise import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from mmsharp.robustness.pixels.snow import snow
from mmsharp.robustness.pixels.spatter import spatter
from mmsharp.robustness.pixels.zoom import zoom_blur

FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    function.__name__: function
    for function in (
        *(gaussian_noise, shot_noise, impulse_noise, speckle_noise),
        *(defocus_blur, glass_blur, motion_blur, zoom_blur, gaussian_blur),
        *(snow, frost, fog, brightness, spatter),
        *(contrast, elastic_transform, pixelate, jpeg_compression, saturate),
    )
}

__all__ = ['FUNCTIONS', 'Draws', 'SeededDraws']
