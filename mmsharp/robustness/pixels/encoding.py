"""What storing an image does to it: JPEG compression and large pixels.

Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261), in the form of ``imagecorruptions``; both are done by Pillow,
as there, bit by bit.
"""

import io

import numpy as np
from PIL import Image

from mmsharp.robustness.pixels.draws import Draws

FILTERS = {'nearest': Image.Resampling.NEAREST, 'box': Image.Resampling.BOX}


def jpeg_compression(image: np.ndarray, draws: Draws, quality: int) -> np.ndarray:
    """Written as JPEG of some quality and read again; nothing is drawn."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'JPEG', quality=quality)
    return np.array(Image.open(file))


def pixelate(image: np.ndarray, draws: Draws, scale: float, enlarge: str) -> np.ndarray:
    """Made smaller with a box filter, then large again with the filter ``enlarge``; nothing is drawn."""
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((int(width * scale), int(height * scale)), Image.Resampling.BOX)
    return np.array(small.resize((width, height), FILTERS[enlarge]))
