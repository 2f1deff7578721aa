"""Spatter: drops of water, splashes of mud.

Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261), in the form of ``imagecorruptions``. Departure: where no drop
falls the image stays as it is; the reference divides by the largest of an empty layer and returns black.
"""

import cv2
import numpy as np

from mmsharp.robustness.pixels.compiled import compiled
from mmsharp.robustness.pixels.draws import Draws
from mmsharp.robustness.pixels.filters import smooth

WATER = (175, 238, 238)
MUD = (63, 42, 20)
RELIEF = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
SOLID = 0.8


def spatter(
    image: np.ndarray,
    draws: Draws,
    mean: float,
    deviation: float,
    sigma: float,
    threshold: float,
    intensity: float,
    mud: int,
) -> np.ndarray:
    """Where smoothed noise exceeds a threshold there is liquid: pale turquoise water is added, brown mud covers.

    Drawn is the noise. It is smoothed in 64 bits, because the edges of the drops hang on single grey levels.
    """
    noise = draws.normal(image.shape[:2]).astype(np.float64) * deviation + mean
    liquid = smooth(noise, sigma, depth=cv2.CV_64F)
    if mud:
        cover = smooth((liquid > threshold).astype(np.float32), intensity)
        cover[cover < SOLID] = 0
    else:
        liquid[liquid < threshold] = 0
        cover = _drops((liquid * 255).astype(np.uint8))
        cover *= np.float32(intensity)
    out = np.empty_like(image)
    _paint(image, cover, np.array(MUD if mud else WATER, dtype=np.float32), np.float32(mud), out)
    return out


def _drops(liquid: np.ndarray) -> np.ndarray:
    """The drops, bright where they are thick and lit from one side, from 0 to 1."""
    distance = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    relief = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
    relief = cv2.blur(cv2.filter2D(relief, cv2.CV_8U, RELIEF), (3, 3))
    drops = liquid * relief.astype(np.float32)
    largest = drops.max()
    return drops / largest if largest > 0 else drops


@compiled('void(uint8[:, :, ::1], float32[:, ::1], float32[::1], float32, uint8[:, :, ::1])')
def _paint(image: np.ndarray, cover: np.ndarray, colour: np.ndarray, opacity: np.float32, out: np.ndarray) -> None:
    one, white = np.float32(1), np.float32(255)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            added, kept = cover[y, x], one - opacity * cover[y, x]
            for channel in range(3):
                value = kept * np.float32(image[y, x, channel]) + added * colour[channel]
                out[y, x, channel] = np.uint8(min(value, white))
