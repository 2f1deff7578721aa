"""Images that are too small to be corrupted, found before the first pass where that costs little."""

import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from mmsharp.datasets.transforms import CurrentCell
from mmsharp.errors import MmsharpError
from mmsharp.robustness import SMALLEST_SIDE, Cell, TooSmallImageError


def refuse_small_images(datasets: Iterable[tuple[Any, bool]], current: CurrentCell) -> None:
    """Stop at the first image with a side below 32 pixels, as far as sizes are known without decoding all images.

    Each dataset's first image goes through its pipeline. Where images are corrupted as large as their files are, so do
    those whose annotations or, without these, whose files' headers say that they are small; the pipeline decides.

    Args:
        datasets: The datasets themselves, unwrapped, with the corruption in their pipelines; and whether it stands
            before everything that changes the size.
        current: The cell, which is the clean one afterwards.

    Raises:
        MmsharpError: Naming the image, its size and what to do.
    """
    current.set(Cell.clean(), sized=True)
    try:
        for dataset, as_in_file in datasets:
            for index in _suspects(dataset, as_in_file):
                try:
                    dataset[index]
                except TooSmallImageError as error:
                    advice = 'tools/test_robust.py leaves them out with --on-bad-image skip'
                    raise MmsharpError(f'{error} ({advice})') from error
                except Exception:
                    continue  # whatever else is wrong with it, its cell says
    finally:
        current.set(Cell.clean())


def shorter_side(info: Mapping[str, Any]) -> int | None:
    """The shorter side of an image as an array, by its annotations, or by its file's header; ``None`` where none says.

    Example:
        >>> shorter_side({'width': 500, 'height': 24}), shorter_side({'img_path': 'missing.png'})
        (24, None)
        >>> shorter_side({'width': 0, 'height': 0, 'img_path': 'missing.png'}) is None
        True
    """
    held = info.get('img')
    if isinstance(held, np.ndarray):
        return min(held.shape[:2])
    width, height = info.get('width'), info.get('height')
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:  # exporters write 0 for unknown
        return min(width, height)
    path = info.get('img_path')
    if not isinstance(path, str) or not os.path.isfile(path):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of very large ones
            with Image.open(path) as image:
                return min(image.size)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _suspects(dataset: Any, as_in_file: bool) -> Iterable[int]:
    if len(dataset):
        yield 0
    if as_in_file and hasattr(dataset, 'get_data_info'):
        for index in range(1, len(dataset)):
            side = shorter_side(dataset.get_data_info(index))
            if side is not None and side < SMALLEST_SIDE:
                yield index
