"""The same real digits for classification: colour images of 32x32 in one folder per class, shaped like CIFAR."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from mmsharp.datasets.complete_folder import appearing_at_once, holds_complete_set
from mmsharp.datasets.digit_samples import (
    SPLITS,
    Floats,
    Image,
    load_digit_samples,
    load_photographs,
    random_crop,
    split_digits,
)
from mmsharp.datasets.digits_voc import CLASSES, contrasting_colour, render_digit
from mmsharp.errors import MmsharpError

MANIFEST = 'digits_folder.json'
VERSION = 2
SIDE = 32
DIMMING = 0.4
"""Brightness left to the photographs: digits are nearly always the lighter part, and a short training learns them."""


@dataclass(frozen=True)
class DigitsFolder:
    """What to make.

    Args:
        copies: Images per digit sample, each on another photograph in another colour.
        rotation: Largest rotation to either side, in degrees.
        seed: Everything else follows from it.

    Raises:
        MmsharpError: A number out of range.
    """

    copies: int = 2
    rotation: float = 15.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (('copies', 1, 100), ('rotation', 0, 180), ('seed', 0, 2**32 - 1)):
            if not low <= getattr(self, name) <= high:
                raise MmsharpError(f'{name}={getattr(self, name)!r} is not between {low} and {high}')


def compose_digit(background: Image, ink: Floats, rotation: float, generator: np.random.Generator) -> Image:
    """One digit, about 26 pixels high, near the middle of a dimmed 32x32 crop of a photograph.

    Example:
        >>> blank = np.zeros((32, 32, 3), np.uint8)
        >>> compose_digit(blank, np.ones((8, 8), np.float32), 0.0, np.random.default_rng(0)).shape
        (32, 32, 3)
    """
    opacity = render_digit(ink, int(generator.integers(24, 30)), generator.uniform(-rotation, rotation))
    shift = generator.uniform(-2, 2, size=2) + (SIDE - opacity.shape[0]) / 2
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    placed = cv2.warpAffine(opacity, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)[..., None]
    canvas = background.astype(np.float32) * DIMMING
    canvas += (contrasting_colour(canvas, generator) - canvas) * placed
    return np.clip(np.round(canvas), 0, 255).astype(np.uint8)


def write_digits_folder(folder: str | os.PathLike[str], settings: DigitsFolder) -> Iterator[tuple[int, int]]:
    """Write ``folder/{train,val,test}/<class>/<name>.png``, and yield ``(done, all)`` after every image.

    Splits share neither a digit sample nor a pixel of a photograph. The set appears in one step when it is complete.

    Args:
        folder: Where; must not exist, or hold such a set.
        settings: What.

    Raises:
        MmsharpError: The folder holds something else, or a set made with other settings.
    """
    target = Path(folder)
    manifest = dict(version=VERSION, **asdict(settings))
    ink, labels = load_digit_samples()
    total = len(labels) * settings.copies
    if holds_complete_set(target, MANIFEST, manifest):
        yield total, total
        return
    parts, photographs = split_digits(labels, settings.seed), load_photographs()
    done = 0
    with appearing_at_once(target, MANIFEST, manifest) as folder:
        for split in SPLITS:
            for name in CLASSES:
                (folder / split / name).mkdir(parents=True)
            for sample in parts[split].tolist():
                for copy in range(settings.copies):
                    generator = np.random.default_rng([settings.seed, 3, sample, copy])
                    background = random_crop(photographs, split, SIDE, generator)
                    picture = compose_digit(background, ink[sample], settings.rotation, generator)
                    path = folder / split / CLASSES[labels[sample]] / f'{sample:04d}_{copy}.png'
                    cv2.imwrite(str(path), picture[..., ::-1])
                    done += 1
                    yield done, total
