"""Paint predictions on a picture, readable on any background."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

GOLDEN_RATIO = (1 + 5**0.5) / 2
SHORT_SIDE = 240
"""Pictures are brought to about this size, so that text fits on small images and the report stays light."""


@dataclass(frozen=True)
class Detection:
    """A box (left, top, right, bottom) in pixels of the picture, its class by name and index, and its score."""

    box: tuple[float, float, float, float]
    name: str
    score: float
    index: int = 0


def paint_boxes(pixels: np.ndarray, detections: Sequence[Detection]) -> np.ndarray:
    """Return an RGB picture of about 240 pixels on its short side with boxes, classes and scores.

    Args:
        pixels: RGB picture of shape (height, width, 3), uint8; it is not changed.
        detections: What to paint; the strongest comes last and lies on top. Boxes that are not finite are left out.

    Example:
        >>> box = Detection((5.0, 5.0, 30.0, 25.0), 'cat', 0.9)
        >>> paint_boxes(np.zeros((60, 80, 3), dtype=np.uint8), [box]).shape
        (240, 320, 3)
    """
    picture, scale = _resized(pixels)
    limit = float(max(picture.shape))
    for detection in sorted(detections, key=lambda item: item.score):
        if not np.isfinite(detection.box).all():
            continue
        colour = class_colour(detection.index)
        left, top, right, bottom = (round(min(max(value * scale, -limit), 2 * limit)) for value in detection.box)
        cv2.rectangle(picture, (left, top), (right, bottom), colour, 2, cv2.LINE_AA)
        text = f'{detection.name} {detection.score:.2f}'
        (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.38, 1)
        x = int(np.clip(left, 0, max(picture.shape[1] - width - 4, 0)))
        y = max(top, height + base + 2)
        cv2.rectangle(picture, (x, y - height - base - 2), (x + width + 4, y), colour, cv2.FILLED)
        ink = (0, 0, 0) if sum(colour) > 380 else (255, 255, 255)
        cv2.putText(picture, text, (x + 2, y - base), cv2.FONT_HERSHEY_SIMPLEX, 0.38, ink, 1, cv2.LINE_AA)
    return picture


def paint_label(pixels: np.ndarray, right: bool | None) -> np.ndarray:
    """Return an RGB picture with a frame: green where the prediction is right, red where it is wrong.

    Example:
        >>> paint_label(np.zeros((32, 32, 3), dtype=np.uint8), right=True)[0, 0].tolist()
        [26, 152, 80]
    """
    picture, _ = _resized(pixels)
    if right is not None:
        height, width = picture.shape[:2]
        cv2.rectangle(picture, (0, 0), (width - 1, height - 1), (26, 152, 80) if right else (215, 48, 39), 6)
    return picture


def class_colour(index: int) -> tuple[int, int, int]:
    """A vivid RGB colour per class index; the golden ratio keeps the hues of neighbouring indices far apart.

    Example:
        >>> class_colour(0), class_colour(1)
        ((242, 61, 61), (61, 114, 242))
    """
    red, green, blue = colorsys.hsv_to_rgb(index * GOLDEN_RATIO % 1.0, 0.75, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def _resized(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    height, width = pixels.shape[:2]
    scale = SHORT_SIDE / min(height, width)
    interpolation = cv2.INTER_AREA if scale < 1 else (cv2.INTER_NEAREST if scale > 3 else cv2.INTER_LINEAR)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return cv2.resize(pixels, size, interpolation=interpolation), scale
