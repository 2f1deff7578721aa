"""Pictures inside a report: what is shown, and its bytes as a data URI, so that the page needs no other file."""

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from mmsharp.robustness import Cell

JPEG_QUALITY = 88


@dataclass(frozen=True)
class SamplePicture:
    """A test image in one cell, painted: RGB pixels, uint8, and what to write under it."""

    cell: Cell
    image: str
    pixels: np.ndarray
    caption: str


def data_uri(pixels: np.ndarray) -> str:
    """Encode an RGB picture of shape (height, width, 3), uint8, as a JPEG data URI.

    Example:
        >>> data_uri(np.zeros((8, 8, 3), dtype=np.uint8))[:23]
        'data:image/jpeg;base64,'
    """
    encoded = cv2.imencode('.jpg', pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return f'data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}'
