"""CIFAR-10 as one folder of pictures per class, with a validation split and, on request, fewer training images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mmsharp.datasets.cifar10_archives import CLASSES, Picture, has_names, read_pictures
from mmsharp.datasets.complete_folder import appearing_at_once, holds_complete_set
from mmsharp.errors import MmsharpError

MANIFEST = 'cifar10_folder.json'
VERSION = 1


@dataclass(frozen=True)
class CIFAR10Folder:
    """What to take, the same number of every class; the images are drawn without replacement.

    Args:
        train: Training images.
        val: Validation images, out of the training images too and none of those.
        test: Test images.
        holdout: More of the test images, none of those: what settings are chosen on where a network starts from
            published weights, which have seen all training images.
        seed: Which are drawn.
        holdout_after: How many test images are drawn before those that are held out, by default all ``test``. With a
            number, the same images are held out whatever ``test`` is, and a larger test set goes on behind them.

    Raises:
        MmsharpError: A number is no multiple of ten, or more than there are.
    """

    train: int = 45_000
    val: int = 5_000
    test: int = 10_000
    holdout: int = 0
    seed: int = 0
    holdout_after: int | None = None

    def __post_init__(self) -> None:
        if self.holdout_after is None:
            object.__setattr__(self, 'holdout_after', self.test)
        for name, least in (('train', 1), ('val', 1), ('test', 1), ('holdout', 0), ('holdout_after', 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least or value % len(CLASSES):
                raise MmsharpError(f'{name}={value!r} is no positive multiple of {len(CLASSES)}')
        needed = max(self.test, self.holdout_after or 0) + self.holdout
        if self.train + self.val > 50_000 or needed > 10_000:
            raise MmsharpError(
                f'train={self.train} and val={self.val}, test={self.test} and holdout={self.holdout} after '
                f'{self.holdout_after}: CIFAR-10 has 50000 training and 10000 test images'
            )


def write_cifar10_folder(
    source: str | os.PathLike[str], folder: str | os.PathLike[str], settings: CIFAR10Folder
) -> Iterator[tuple[int, int]]:
    """Write ``folder/{train,val,test,holdout}/<class>/<name>.png``, and yield ``(done, all)`` after every image.

    The set appears in one step when it is complete. A seed draws the same images from the Python
    version and from the zip files, which share names, and others from the binary version, which has none.

    Args:
        source: The archives; see :func:`~mmsharp.datasets.cifar10_archives.read_pictures`.
        folder: Where; must not exist, or hold such a set.
        settings: What.

    Raises:
        MmsharpError: An archive is missing or damaged or holds fewer images, or the folder holds something else.
    """
    target = Path(folder)
    manifest = dict(version=VERSION, **asdict(settings))
    if not settings.holdout:
        del manifest['holdout']
    if not settings.holdout or settings.holdout_after == settings.test:
        manifest['holdout_after'] = None  # as in sets that were made before there was a choice
    if not has_names(Path(source)):
        manifest['names'] = 'numbers'
    total = settings.train + settings.val + settings.test + settings.holdout
    if holds_complete_set(target, MANIFEST, manifest):
        yield total, total
        return
    chosen = _choose(read_pictures(Path(source)), settings)
    done = 0
    with appearing_at_once(target, MANIFEST, manifest) as part:
        for split, pictures in chosen.items():
            for kind, picture in pictures:
                path = part / split / kind / picture.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture.read())
                done += 1
                yield done, total


def _choose(
    found: Mapping[tuple[str, str], list[Picture]], settings: CIFAR10Folder
) -> dict[str, list[tuple[str, Picture]]]:
    """Class and picture of all images of each split, drawn class by class."""
    generator = np.random.default_rng(settings.seed)
    chosen: dict[str, list[tuple[str, Picture]]] = {'train': [], 'val': [], 'test': [], 'holdout': []}
    before = min(settings.test, settings.holdout_after or 0)
    skipped = (settings.holdout_after or 0) - before
    wanted = {
        'train': (('train', settings.train), ('val', settings.val)),
        'test': (('test', before), ('', skipped), ('holdout', settings.holdout), ('test', settings.test - before)),
    }
    for kind in CLASSES:
        for part, splits in wanted.items():
            pictures = sorted(found.get((part, kind), []), key=lambda picture: picture.name)
            order = generator.permutation(len(pictures))
            needed = sum(count for _, count in splits) // len(CLASSES)
            if needed > len(pictures):
                raise MmsharpError(
                    f'the archives hold {len(pictures)} images {part}/{kind}, and {needed} are asked for'
                )
            start = 0
            for split, count in splits:
                share = count // len(CLASSES)
                if split:
                    drawn = sorted(order[start : start + share].tolist())
                    chosen[split] += [(kind, pictures[index]) for index in drawn]
                start += share
    return chosen
