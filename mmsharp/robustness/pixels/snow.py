"""Snow.

Source: Hendrycks and Dietterich 2019 (arXiv 1903.12261), in the form of ``imagecorruptions``.
"""

import numpy as np

from mmsharp.robustness.pixels.compiled import compiled
from mmsharp.robustness.pixels.draws import Draws
from mmsharp.robustness.pixels.motion import blur_along
from mmsharp.robustness.pixels.zoom import clipped_zoom


def snow(
    image: np.ndarray,
    draws: Draws,
    mean: float,
    deviation: float,
    factor: float,
    threshold: float,
    radius: int,
    sigma: float,
    blend: float,
) -> np.ndarray:
    """Flakes over a pale image: noise that is zoomed, cut off below a threshold and blurred along its fall.

        y = blend x + (1 - blend) max(x, 1.5 grey(x) + 0.5) + flakes + flakes turned by 180 degrees

    Drawn are the noise and the angle of the fall, from -135 to -45 degrees.
    """
    flakes = draws.normal(image.shape[:2]).astype(np.float32, copy=False)
    flakes = clipped_zoom(flakes * np.float32(deviation) + np.float32(mean), factor)
    flakes[flakes < threshold] = 0
    np.minimum(flakes, 1, out=flakes)
    flakes = blur_along(flakes, radius, sigma, draws.number(-135, -45))
    flakes = np.rint(flakes[: image.shape[0], : image.shape[1]] * 255)
    fallen = np.zeros(image.shape[:2], dtype=np.float32)
    fallen[: flakes.shape[0], : flakes.shape[1]] = flakes + flakes[::-1, ::-1]
    out = np.empty_like(image)
    _cover(image, fallen, np.float32(blend), out)
    return out


@compiled('void(uint8[:, :, ::1], float32[:, ::1], float32, uint8[:, :, ::1])')
def _cover(image: np.ndarray, fallen: np.ndarray, blend: np.float32, out: np.ndarray) -> None:
    red, green, blue = np.float32(0.299), np.float32(0.587), np.float32(0.114)
    rest, half, bright, white = np.float32(1) - blend, np.float32(127.5), np.float32(1.5), np.float32(255)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            r, g, b = np.float32(image[y, x, 0]), np.float32(image[y, x, 1]), np.float32(image[y, x, 2])
            pale = bright * (red * r + green * g + blue * b) + half
            for channel in range(3):
                value = np.float32(image[y, x, channel])
                value = blend * value + rest * max(value, pale) + fallen[y, x]
                out[y, x, channel] = np.uint8(min(value, white))
