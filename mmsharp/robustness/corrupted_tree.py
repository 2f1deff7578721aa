"""A folder of pictures that were corrupted before: ``<corruption>/<severity>/<path of the image>``.

ImageNet-C is released like that, and ``tools/dataset_converters/corrupt_dataset.py`` writes such trees.
"""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any

from mmsharp.errors import MmsharpError
from mmsharp.files import read_json
from mmsharp.robustness.corruptions import NAMES
from mmsharp.robustness.grid import Cell

TREE_MANIFEST = 'corruptions.json'
"""How the pictures of a tree were made; written by our converter, absent from released trees."""
TREE_IMAGES = 'images.json'
"""Of which images, with their annotations: a digest per path in a cell without its suffix; written by our converter."""
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.ppm', '.tif', '.tiff', '.webp')
SHOWN = 3


class CorruptedTree:
    """The cells of a tree, and where an image of a data set lies in them.

    The folders of the corruptions may stand one level deeper, in the five parts (``noise``, ``blur`` ...) in which
    ImageNet-C is downloaded. All cells are taken to hold the same images under the same paths.

    Args:
        root: The folder.

    Raises:
        MmsharpError: The folder does not exist, holds no corruption, or its manifest is broken.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> (root / 'fog' / '3' / 'n01440764').mkdir(parents=True)
        >>> (root / 'fog' / '3' / 'n01440764' / 'one.JPEG').touch()
        >>> tree = CorruptedTree(root)
        >>> [str(cell) for cell in tree.cells]
        ['fog/3']
        >>> tree.match(['val/n01440764/one.png'])
        {'val/n01440764/one.png': 'n01440764/one.JPEG'}
        >>> tree.path(Cell('fog', 3), 'n01440764/one.JPEG').endswith('fog/3/n01440764/one.JPEG')
        True
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise MmsharpError(f'the folder of corrupted images {str(self.root)!r} does not exist')
        self._folders = _cell_folders(self.root)
        if not self._folders:
            raise MmsharpError(
                f'{str(self.root)!r} holds no corrupted images; expected <corruption>/<severity>/... with corruptions '
                f'such as {", ".join(NAMES[:3])} and severities 1 to 5'
            )
        path = self.root / TREE_MANIFEST
        self.manifest: dict[str, Any] = read_json(path, 'make the tree again') if path.is_file() else {}
        self._files: list[str] | None = None
        self._images: dict[str, Any] | None = None

    @property
    def cells(self) -> tuple[Cell, ...]:
        """The cells that the tree holds, in the order of the benchmark."""
        return tuple(self._folders)

    @property
    def files(self) -> list[str]:
        """The paths of the images in a cell, found in the first one."""
        if self._files is None:
            self._files = _image_files(next(iter(self._folders.values())))
        return self._files

    @property
    def images(self) -> dict[str, Any]:
        """The digest of each image with its annotations, by its path in a cell without the suffix; empty if unknown.

        Raises:
            MmsharpError: The record is damaged.
        """
        if self._images is None:
            path = self.root / TREE_IMAGES
            advice = 'start tools/dataset_converters/corrupt_dataset.py again, which writes it anew'
            self._images = read_json(path, advice) if path.is_file() else {}
        return self._images

    def path(self, cell: Cell, file: str) -> str:
        """Where the picture of a cell lies."""
        return str(self._folders[cell] / file)

    def digest(self) -> str:
        """A hash of the paths of the images and of the manifest; what is in the pictures does not count."""
        content = json.dumps([self.files, self.manifest], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def match(self, images: Sequence[str]) -> dict[str, str]:
        """Find the images of a data set in the tree.

        The one is taken that has the same name, whatever its suffix, and as many of the same folders above it as any.
        Folders that only the tree has, as the classes of ImageNet-C have for a flat folder of validation images, are
        accepted where they cannot mislead: every image has to do without the same number of them, no folder of the tree
        may be called as the image's own, and images from several folders have to share the last one. The time is linear
        in the number of images and files.

        Args:
            images: Paths of a data set, absolute or not.

        Returns:
            The path in a cell per path of the data set.

        Raises:
            MmsharpError: Images are missing in the tree, or cannot be told apart; some are named.
        """
        ends, held = _by_last_folders(self.files)
        found: dict[str, str] = {}
        surplus: dict[str, int] = {}
        missing: list[str] = []
        ambiguous: list[str] = []
        bare: list[str] = []
        depth = max(map(len, ends), default=0)
        for image in images:
            path = PurePath(image)
            known = [end for end in _ends(path.parts[:-1], depth) if end in ends]
            shared = next((end for end in known if (*end, path.stem) in held), None)
            if shared is None or len(shared) < len(known[0]):
                missing.append(image)
                continue
            key = (*shared, path.stem)
            file, count = held[key]
            if count > 1:
                ambiguous.append(image)
                continue
            found[image] = file
            surplus[image] = file.count('/') - len(shared)
            if surplus[image] and not shared:
                bare.append(image)
        if missing:
            raise MmsharpError(
                f'{len(missing)} of {len(images)} test images are not in {str(self.root)!r}, for example '
                f'{", ".join(missing[:SHOWN])}; is it a tree of another data set, or not complete?'
            )
        if ambiguous or len(set(found.values())) < len(found):
            raise MmsharpError(
                f'images of the same name cannot be told apart in {str(self.root)!r}, for example '
                f'{", ".join((ambiguous or _doubled(found))[:SHOWN])}; their folders have to have the same names there'
            )
        elsewhere = bare if len({PurePath(image).parent for image in images}) > 1 else []
        least = min(surplus.values(), default=0)
        elsewhere = elsewhere or [image for image, number in surplus.items() if number > least]
        if elsewhere:
            raise MmsharpError(
                f'{len(elsewhere)} of {len(images)} test images have their name in {str(self.root)!r}, but in other '
                f'folders, for example {elsewhere[0]} as {found[elsewhere[0]]}; is it a tree of another data set?'
            )
        return found


def check_cells(wanted: Iterable[Cell], there: Iterable[Cell], root: str | os.PathLike[str]) -> None:
    """Refuse a grid with cells that a source does not hold.

    Raises:
        MmsharpError: Naming the cells that are missing.

    Example:
        >>> check_cells([Cell.clean(), Cell('fog', 3)], [Cell('fog', 1)], 'tree')
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: 'tree' does not hold fog/3; choose other --corruptions and --severities, or ...
    """
    held = set(there)
    missing = [str(cell) for cell in wanted if not cell.is_clean and cell not in held]
    if missing:
        more = f' and {len(missing) - SHOWN} more' if len(missing) > SHOWN else ''
        raise MmsharpError(
            f'{os.fspath(root)!r} does not hold {", ".join(missing[:SHOWN])}{more}; choose other --corruptions and '
            '--severities, or complete it'
        )


def _cell_folders(root: Path) -> dict[Cell, Path]:
    parts = [root, *sorted(entry for entry in root.iterdir() if entry.is_dir() and entry.name not in NAMES)]
    folders: dict[Cell, Path] = {}
    for name in NAMES:
        for severity in range(1, 6):
            for part in parts:
                folder = part / name / str(severity)
                if folder.is_dir():
                    folders.setdefault(Cell(name, severity), folder)
    return folders


def _image_files(folder: Path) -> list[str]:
    """The images below a folder, through links too, save those that lead back to a folder on the way."""
    found: list[str] = []
    passed = {str(folder): frozenset({os.path.realpath(folder)})}
    for where, folders, names in os.walk(folder, followlinks=True):
        way = passed.pop(where)
        found += [os.path.join(where, name) for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
        for name in list(folders):
            inner = os.path.join(where, name)
            real = os.path.realpath(inner)
            if real in way:
                folders.remove(name)
            else:
                passed[inner] = way | {real}
    return sorted(os.path.relpath(file, folder).replace(os.sep, '/') for file in found)


def _by_last_folders(
    files: Iterable[str],
) -> tuple[set[tuple[str, ...]], dict[tuple[str, ...], tuple[str, int]]]:
    """The last folders of all files, any number of them; and per such folders and name a file, and how many there are.

    Example:
        >>> ends, held = _by_last_folders(['cat/1.png', 'dog/1.png'])
        >>> sorted(ends), held['cat', '1'], held['1',]
        ([(), ('cat',), ('dog',)], ('cat/1.png', 1), ('cat/1.png', 2))
    """
    ends: set[tuple[str, ...]] = set()
    held: dict[tuple[str, ...], tuple[str, int]] = {}
    for file in files:
        path = PurePath(file)
        for end in _ends(path.parts[:-1]):
            ends.add(end)
            key = (*end, path.stem)
            first, count = held.get(key, (file, 0))
            held[key] = first, count + 1
    return ends, held


def _ends(folders: tuple[str, ...], most: int | None = None) -> list[tuple[str, ...]]:
    """The last folders of a path, from ``most`` or all of them down to none."""
    count = len(folders)
    return [folders[count - length :] for length in range(min(count, count if most is None else most), -1, -1)]


def _doubled(found: dict[str, str]) -> list[str]:
    images = defaultdict(list)
    for image, file in found.items():
        images[file].append(image)
    return [image for group in images.values() if len(group) > 1 for image in group]
