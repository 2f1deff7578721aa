"""The pictures of CIFAR-10, out of its official archives or out of those that hold them as PNG."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from mmsharp.errors import MmsharpError

CLASSES = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')
ZIPS = ('train_a.zip', 'train_b.zip', 'test.zip')
OFFICIAL = ('cifar-10-binary.tar.gz', 'cifar-10-python.tar.gz')
"""Without names of the pictures, and with them."""
BATCHES = (*(f'data_batch_{number}' for number in range(1, 6)), 'test_batch')
WHERE = (
    f'expected {OFFICIAL[0]} or {OFFICIAL[1]} of https://www.cs.toronto.edu/~kriz/cifar.html, a folder with one of '
    f'them, or a folder with {", ".join(ZIPS)} of https://github.com/cyizhuo/CIFAR-10-dataset'
)
PIXELS = 3 * 32 * 32
UNREADABLE = (
    *(OSError, EOFError, zlib.error, tarfile.TarError),
    *(pickle.UnpicklingError, ValueError, LookupError, TypeError, AttributeError),
)
"""What reading a damaged archive, or one that holds something else, ends in."""


@dataclass(frozen=True)
class Picture:
    """A file to be written: its name, and what gives its bytes."""

    name: str
    read: Callable[[], bytes]


def has_names(source: Path) -> bool:
    """Whether the pictures come with their names, by which a seed draws them: not in the official binary version.

    Raises:
        MmsharpError: It is a file that is no archive.
    """
    if source.is_file():
        return _first_batch(source).suffix != '.bin'
    return any((source / name).is_file() for name in ZIPS) or not (source / OFFICIAL[0]).is_file()


def _first_batch(path: Path) -> PurePosixPath:
    """The first batch in an official archive, whatever the archive is called."""
    try:
        with tarfile.open(path, 'r:gz') as archive:
            found = (PurePosixPath(member.name) for member in archive)
            return next((name for name in found if name.stem in BATCHES), PurePosixPath())
    except UNREADABLE as error:
        raise MmsharpError(f'archive {str(path)!r} cannot be read: {error}; {WHERE}') from error


def read_pictures(source: Path) -> dict[tuple[str, str], list[Picture]]:
    """All pictures by part, ``'train'`` or ``'test'``, and class.

    Args:
        source: An official archive (the binary or the Python version), a folder with one of the two, or a folder with
            ``train_a.zip``, ``train_b.zip`` and ``test.zip``, which hold ``{train,test}/<class>/<name>.png``. A folder
            with both is read from the zip files, whose pictures are copied byte by byte; those of the official archives
            are encoded as PNG, which loses nothing.

    Raises:
        MmsharpError: None of these is there, or one is damaged.
    """
    if source.is_file():
        return _read_official(source)
    if any((source / name).is_file() for name in ZIPS):
        return _read_zips([source / name for name in ZIPS])
    for name in OFFICIAL:
        if (source / name).is_file():
            return _read_official(source / name)
    raise MmsharpError(f'{str(source)!r} has no CIFAR-10; {WHERE}')


def _read_zips(paths: list[Path]) -> dict[tuple[str, str], list[Picture]]:
    found: dict[tuple[str, str], list[Picture]] = {}
    for path in paths:
        try:
            archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise MmsharpError(f'archive {str(path)!r} cannot be read: {error}; {WHERE}') from error
        for name in archive.namelist():
            parts = PurePosixPath(name).parts
            if len(parts) == 3 and name.endswith('.png'):
                found.setdefault((parts[0], parts[1]), []).append(Picture(parts[2], partial(_member, archive, name)))
    return found


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, *UNREADABLE) as error:
        raise MmsharpError(f'{name!r} in archive {archive.filename!r} cannot be read: {error}; {WHERE}') from error


def _read_official(path: Path) -> dict[tuple[str, str], list[Picture]]:
    found: dict[tuple[str, str], list[Picture]] = {}
    seen = set()
    try:
        with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode='r:') as archive:
            for member in archive:
                batch = PurePosixPath(member.name)
                file = archive.extractfile(member) if batch.stem in BATCHES else None
                if file is None:
                    continue
                seen.add(batch.stem)
                read = _binary_batch if batch.suffix == '.bin' else _python_batch
                part = 'test' if batch.stem == 'test_batch' else 'train'
                for name, label, image in read(batch.stem, file.read()):
                    found.setdefault((part, CLASSES[label]), []).append(Picture(name, partial(_png, image)))
            while stream.read(2**20):
                pass  # the check sum stands at the end, and is compared there
    except UNREADABLE as error:
        raise MmsharpError(f'archive {str(path)!r} cannot be read: {error}; {WHERE}') from error
    if len(seen) < len(BATCHES):
        missing = ', '.join(name for name in BATCHES if name not in seen)
        raise MmsharpError(f'archive {str(path)!r} lacks {missing}; {WHERE}')
    return found


def _binary_batch(batch: str, content: bytes) -> Iterator[tuple[str, int, np.ndarray]]:
    """Rows of one byte for the class and the red, green and blue pixels; images without names."""
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return zip((f'{batch}_{number:05d}.png' for number in range(len(rows))), rows[:, 0].tolist(), rows[:, 1:])


def _python_batch(batch: str, content: bytes) -> Iterator[tuple[str, int, np.ndarray]]:
    held = _ArraysAlone(io.BytesIO(content), encoding='bytes').load()
    images = np.asarray(held[b'data'], np.uint8).reshape(-1, PIXELS)
    names = [Path(name.decode()).name for name in held[b'filenames']]
    return zip(names, held[b'labels'], images, strict=True)


class _ArraysAlone(pickle.Unpickler):
    """Reads NumPy's arrays and runs nothing else, whatever a file asks for."""

    NAMES = ('_reconstruct', 'ndarray', 'dtype', 'encode')

    def find_class(self, module: str, name: str) -> Any:
        if name not in self.NAMES or module.split('.')[0] not in ('numpy', '_codecs'):
            raise pickle.UnpicklingError(f'it asks for {module}.{name}, and arrays need no such thing')
        return super().find_class(module, name)


def _png(pixels: np.ndarray) -> bytes:
    image = cv2.cvtColor(pixels.reshape(3, 32, 32).transpose(1, 2, 0), cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode('.png', image)[1])
