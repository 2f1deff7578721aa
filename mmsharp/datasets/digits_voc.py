"""Digits-VOC: real handwritten digits over real photographs, in the layout of Pascal VOC, made without any download."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
from numpy.typing import NDArray

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
from mmsharp.errors import MmsharpError

CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')
MANIFEST = 'digits_voc.json'
VERSION = 1
INK = 0.35
"""Opacity above which a pixel counts as ink: for boxes, overlap and visibility."""
DIFFICULT_HEIGHT, DIFFICULT_CONTRAST = 14, 60.0
"""Less than 14 pixels high, less than 60 grey levels from its surroundings, or half hidden: such a one is difficult."""


@dataclass(frozen=True)
class DigitsVOC:
    """What to make.

    Args:
        train: Number of training images.
        val: Number of validation images.
        test: Number of test images.
        size: Side of the square images, in pixels.
        fewest: Fewest digits in an image.
        most: Most digits in an image.
        smallest: Smallest height of a digit's cell, as a share of the image's side.
        largest: Largest height of a digit's cell, likewise.
        rotation: Largest rotation to either side, in degrees.
        seed: Everything else follows from it.

    Raises:
        MmsharpError: A number out of range.
    """

    train: int = 800
    val: int = 100
    test: int = 100
    size: int = 96
    fewest: int = 2
    most: int = 4
    smallest: float = 0.28
    largest: float = 0.5
    rotation: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ('train', 1, 100_000),
            ('val', 1, 100_000),
            ('test', 1, 100_000),
            ('size', 64, 1024),
            ('fewest', 1, 20),
            ('most', 1, 20),
            ('rotation', 0, 180),
            ('seed', 0, 2**32 - 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise MmsharpError(f'{name}={value!r} is not between {low} and {high}')
        if self.fewest > self.most:
            raise MmsharpError(f'fewest={self.fewest} digits is more than most={self.most}')
        if not 0.08 <= self.smallest <= self.largest <= 0.9:
            raise MmsharpError(
                f'smallest={self.smallest} and largest={self.largest} do not fit 0.08 <= .. <= .. <= 0.9'
            )


@dataclass(frozen=True)
class PlacedDigit:
    """One annotated digit.

    Args:
        sample: Index of the sample in scikit-learn's digits.
        label: Its class, 0 to 9.
        box: Tight box around the visible ink: ``x1, y1, x2, y2``, the first and the last pixel, counted from 0.
        difficult: Small or of low contrast, by the rule above.
        occluded: Other digits hide more than a twentieth of its ink.
        truncated: The image's border cuts ink off.
    """

    sample: int
    label: int
    box: tuple[int, int, int, int]
    difficult: bool
    occluded: bool
    truncated: bool


def render_digit(ink: Floats, height: int, angle: float) -> Floats:
    """Opacity of one digit: its 8x8 ink resized with cubic interpolation, rotated, in a square that holds all of it.

    Example:
        >>> render_digit(np.ones((8, 8), np.float32), height=24, angle=0.0).shape
        (34, 34)
    """
    side = int(np.ceil(height * np.sqrt(2)))
    scale = height / ink.shape[0]
    centre = (ink.shape[1] - 1) / 2, (ink.shape[0] - 1) / 2
    matrix = cv2.getRotationMatrix2D(centre, angle, scale)
    matrix[:, 2] += (side - 1) / 2 - np.array(centre)
    opacity = cv2.warpAffine(ink, matrix, (side, side), flags=cv2.INTER_CUBIC)
    sharpened: Floats = np.clip((opacity - 0.2) / 0.5, 0.0, 1.0).astype(np.float32)
    return sharpened


def compose_image(
    background: Image,
    ink: Floats,
    labels: NDArray[np.int64],
    samples: NDArray[np.int64],
    settings: DigitsVOC,
    generator: np.random.Generator,
) -> tuple[Image, list[PlacedDigit]]:
    """Lay digits over a photograph.

    Args:
        background: RGB uint8 of shape ``(size, size, 3)``; not changed.
        ink: All samples, ``(n, 8, 8)``.
        labels: Their classes.
        samples: Indices that may be used.
        settings: Sizes, numbers and rotation.
        generator: The only source of randomness.

    Returns:
        The image, and the digits that remain visible.
    """
    size = settings.size
    canvas = background.astype(np.float32)
    owner = np.full((size, size), -1)
    drawn: list[tuple[int, int, int, float]] = []
    boxes: list[tuple[int, int, int, int]] = []
    for _ in range(int(generator.integers(settings.fewest, settings.most + 1))):
        sample = int(generator.choice(samples))
        height = round(size * float(generator.uniform(settings.smallest, settings.largest)))
        opacity = render_digit(ink[sample], height, generator.uniform(-settings.rotation, settings.rotation))
        place = _find_place(opacity, boxes, size, generator)
        if place is None:
            continue
        top, left, patch = place
        rows, columns = slice(top, top + patch.shape[0]), slice(left, left + patch.shape[1])
        region = canvas[rows, columns]
        colour = contrasting_colour(region, generator)
        contrast = float(np.abs(_luminance(colour) - _luminance(region).mean()))
        region += (colour - region) * patch[..., None]
        here = owner[rows, columns]
        here[patch > INK] = len(drawn)
        total = int((opacity > INK).sum())
        drawn.append((sample, total, int((patch > INK).sum()), contrast))
        boxes.append((left, top, left + patch.shape[1], top + patch.shape[0]))
    placed = []
    for number, (sample, total, inside, contrast) in enumerate(drawn):
        visible = owner == number
        if not visible.any():
            continue
        ys, xs = np.nonzero(visible)
        box = (int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max()))
        placed.append(
            PlacedDigit(
                sample=sample,
                label=int(labels[sample]),
                box=box,
                difficult=bool(
                    box[3] - box[1] + 1 < DIFFICULT_HEIGHT
                    or contrast < DIFFICULT_CONTRAST
                    or visible.sum() < 0.5 * total
                ),
                occluded=bool(visible.sum() < 0.95 * inside),
                truncated=inside < total,
            )
        )
    return np.clip(np.round(canvas), 0, 255).astype(np.uint8), placed


def _find_place(
    opacity: Floats, boxes: list[tuple[int, int, int, int]], size: int, generator: np.random.Generator
) -> tuple[int, int, Floats] | None:
    """Top, left and the visible part of a digit at a random place that hides little of the others."""
    ys, xs = np.nonzero(opacity > INK)
    tight = opacity[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    height, width = tight.shape
    margin = 0.12
    for _ in range(30):
        top = int(generator.integers(-int(margin * height), size - height + int(margin * height) + 1))
        left = int(generator.integers(-int(margin * width), size - width + int(margin * width) + 1))
        box = (max(left, 0), max(top, 0), min(left + width, size), min(top + height, size))
        if all(_overlap(box, other) < 0.25 for other in boxes):
            return box[1], box[0], tight[box[1] - top : box[3] - top, box[0] - left : box[2] - left]
    return None


def _overlap(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> float:
    """Intersection over the smaller of two boxes."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (first, second))
    return max(width, 0) * max(height, 0) / smaller


def _luminance(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(colours @ np.array([0.299, 0.587, 0.114], np.float32))


def contrasting_colour(region: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    """The random colour, of eight drawn, that differs most in luminance from the region that it will cover."""
    colours = generator.uniform(0, 255, (8, 3)).astype(np.float32)
    return np.asarray(colours[np.argmax(np.abs(_luminance(colours) - _luminance(region).mean()))])


def annotation_xml(name: str, size: int, digits: list[PlacedDigit]) -> str:
    """One image's annotation as Pascal VOC writes it, corners counted from 1.

    Example:
        >>> text = annotation_xml('000001', 128, [PlacedDigit(5, 3, (9, 19, 39, 59), False, False, True)])
        >>> '<xmin>10</xmin>' in text, '<name>three</name>' in text, '<truncated>1</truncated>' in text
        (True, True, True)
    """
    root = ElementTree.Element('annotation')

    def add(parent: ElementTree.Element, tag: str, text: object = None) -> ElementTree.Element:
        child = ElementTree.SubElement(parent, tag)
        child.text = None if text is None else str(text)
        return child

    add(root, 'folder', 'VOC2007')
    add(root, 'filename', f'{name}.jpg')
    add(add(root, 'source'), 'database', 'Digits-VOC')
    shape = add(root, 'size')
    for tag, value in (('width', size), ('height', size), ('depth', 3)):
        add(shape, tag, value)
    add(root, 'segmented', 0)
    for digit in digits:
        entry = add(root, 'object')
        add(entry, 'name', CLASSES[digit.label])
        add(entry, 'pose', 'Unspecified')
        add(entry, 'truncated', int(digit.truncated))
        add(entry, 'occluded', int(digit.occluded))
        add(entry, 'difficult', int(digit.difficult))
        box = add(entry, 'bndbox')
        for tag, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), digit.box):
            add(box, tag, value + 1)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding='unicode') + '\n'


def write_digits_voc(folder: str | os.PathLike[str], settings: DigitsVOC) -> Iterator[tuple[int, int]]:
    """Write ``folder/VOC2007/{Annotations,JPEGImages,ImageSets/Main}``, and yield ``(done, all)`` after every image.

    The set appears in one step when it is complete: it is written beside its place first. A complete set made with the
    same settings is left as it is.

    Args:
        folder: Where; must not exist, or hold such a set.
        settings: What.

    Raises:
        MmsharpError: The folder holds something else, or a set made with other settings.
    """
    target = Path(folder)
    total = settings.train + settings.val + settings.test
    manifest: dict[str, Any] = dict(version=VERSION, **asdict(settings))
    if holds_complete_set(target, MANIFEST, manifest):
        yield total, total
        return
    ink, labels = load_digit_samples()
    parts, photographs = split_digits(labels, settings.seed), load_photographs()
    used: dict[str, list[int]] = {}
    manifest['samples'] = used
    with appearing_at_once(target, MANIFEST, manifest) as folder:
        base = folder / 'VOC2007'
        for name in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
            (base / name).mkdir(parents=True)
        done = 0
        for position, split in enumerate(SPLITS):
            names = []
            seen: set[int] = set()
            for number in range(getattr(settings, split)):
                generator = np.random.default_rng([settings.seed, 2, position, number])
                name = f'{done + 1:06d}'
                digits: list[PlacedDigit] = []
                while not digits:
                    background = random_crop(photographs, split, settings.size, generator)
                    picture, digits = compose_image(background, ink, labels, parts[split], settings, generator)
                image = base / 'JPEGImages' / f'{name}.jpg'
                cv2.imwrite(str(image), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
                (base / 'Annotations' / f'{name}.xml').write_text(annotation_xml(name, settings.size, digits))
                names.append(name)
                seen.update(digit.sample for digit in digits)
                done += 1
                yield done, total
            (base / 'ImageSets/Main' / f'{split}.txt').write_text(''.join(f'{name}\n' for name in names))
            used[split] = sorted(seen)
        both = [(base / 'ImageSets/Main' / f'{split}.txt').read_text() for split in ('train', 'val')]
        (base / 'ImageSets/Main/trainval.txt').write_text(''.join(both))
