"""Write the corrupted images of any data set to a tree, for tools that do not corrupt themselves."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from torch.utils.data import DataLoader, Dataset

from mmsharp.datasets.transforms import CorruptCurrentCell, CurrentCell
from mmsharp.datasets.transforms.corrupt import corrupt_image
from mmsharp.engine.configs.config import check_data
from mmsharp.engine.configs.config_errors import naming_broken_config
from mmsharp.engine.configs.pipelines import base_datasets, transforms_of
from mmsharp.engine.data_errors.annotation_errors import naming_broken_annotations
from mmsharp.engine.robustness.data_digest import data_sha256, image_digest
from mmsharp.engine.robustness.identity import versions
from mmsharp.engine.robustness.placement import place_corruption
from mmsharp.engine.robustness.sources import Computed, Placement, Position
from mmsharp.errors import MmsharpError, deliberate_refusal
from mmsharp.files import appearing_whole, read_json, write_json
from mmsharp.robustness import (
    TREE_IMAGES,
    TREE_MANIFEST,
    Cell,
    ChannelOrder,
    Grid,
    OnTheFly,
    describe_differences,
    image_id,
)

Format = Literal['png', 'jpg']
FORMATS: tuple[Format, ...] = ('png', 'jpg')
SUFFIXES: dict[Format, tuple[str, ...]] = {'png': ('.png',), 'jpg': ('.jpg', '.jpeg')}
BEST_QUALITY = 100
DECISIVE = ('torch', 'numpy', 'scipy', 'PIL', 'cv2', 'skimage', 'numba', 'mmcv', 'mmsharp', 'imagecorruptions')


@dataclass(frozen=True)
class TreeSettings:
    """How a tree is written.

    Args:
        on_the_fly: Seed, order of channels, whose functions and which constants.
        position: ``'after_loading'`` writes pictures of the full size, ``'after_crop'`` those that the model takes;
            ``'auto'`` as :func:`mmsharp.engine.robustness.placement.place_corruption`.
        form: ``'png'`` keeps every pixel, ``'jpg'`` is small. An image whose suffix says this format already keeps its
            name altogether, ``.JPEG`` and capitals included; others get the suffix of the format.
        quality: Of JPEG, 1 to 100.

    Raises:
        MmsharpError: An argument is out of range.
    """

    on_the_fly: OnTheFly = field(default_factory=OnTheFly)
    position: Position | Literal['auto'] = 'auto'
    form: Format = 'png'
    quality: int = 95

    def __post_init__(self) -> None:
        if self.form not in FORMATS:
            raise MmsharpError(f'format {self.form!r} is none of {", ".join(FORMATS)}')
        if isinstance(self.quality, bool) or not 1 <= self.quality <= BEST_QUALITY:
            raise MmsharpError(f'quality {self.quality!r} is not from 1 to {BEST_QUALITY}')


def write_tree(
    cfg: Config, out: str | os.PathLike[str], grid: Grid, settings: TreeSettings, split: str = 'test', workers: int = 0
) -> Iterator[tuple[int, int]]:
    """Write ``<corruption>/<severity>/<path of the image>`` for every image of a data set, and how it was made.

    The path is the image's own below the data root; its suffix is that of the format, see :class:`TreeSettings`.

    What is there already is not written again, so that a killed run goes on where it was; every file appears whole. The
    pictures are those that ``tools/test_robust.py`` computes on the fly.

    Args:
        cfg: Its ``<split>_dataloader.dataset`` is read; it is not changed.
        out: The folder.
        grid: The cells; the clean one is not written.
        settings: How.
        split: ``test`` or ``val``.
        workers: Processes that corrupt and write.

    Yields:
        How many pictures are there, and how many there will be.

    Raises:
        MmsharpError: The data is missing or broken, an image cannot be read (named; what is written is kept), the
            folder holds a tree that was made otherwise, images are too small, or the disk is full.
    """
    name = f'{split}_dataloader'
    if cfg.get(name) is None:
        raise MmsharpError(f'the config defines no {name}; choose another --split')
    check_data(cfg, (name,))
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    with naming_broken_config(cfg.filename), naming_broken_annotations():
        dataset = DATASETS.build(cfg[name].dataset)
    current = CurrentCell()
    source = Computed(settings.on_the_fly)
    placement = place_corruption(dataset, current, source, 'auto', settings.position)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    _settle_manifest(folder, _manifest(cfg, dataset, settings, placement))
    cells = [cell for cell in grid.cells if not cell.is_clean]
    pictures = _Pictures(dataset, folder, cells, settings, placement.image_order)
    source.prepare(grid, dataset, current)
    write_json(folder / TREE_IMAGES, pictures.digests())
    done, total = 0, len(cells) * len(pictures)
    yield done, total
    try:
        for written in DataLoader(
            pictures, batch_size=None, num_workers=workers, worker_init_fn=_without_opencv_threads
        ):
            done += int(written)
            yield done, total
    except MmsharpError as error:
        raise MmsharpError(
            f'{deliberate_refusal(error)}; the pictures written before are kept, mend the cause and start again'
        ) from error


class _Pictures(Dataset[int]):
    """Every image of a data set; taking one corrupts and writes it in every cell, and counts its pictures."""

    def __init__(
        self, dataset: Any, folder: Path, cells: Sequence[Cell], settings: TreeSettings, order: ChannelOrder
    ) -> None:
        self.parts = [(base, _until_corruption(base)) for base in base_datasets(dataset)]
        self.folder = folder
        self.cells = cells
        self.settings = settings
        self.order = order
        self.names = [_name(base, index) for base, _ in self.parts for index in range(len(base))]
        # Whatever the suffix, because the evaluation finds pictures without it.
        doubled = [name for name, count in Counter(stem for stem, _ in self.names).items() if count > 1]
        if doubled:
            raise MmsharpError(f'several images would get the name {doubled[0]!r}; give them folders under data_root')

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> int:
        paths = [self.folder / cell.corruption / str(cell.severity) / self._file(index) for cell in self.cells]
        wanted = [(cell, path) for cell, path in zip(self.cells, paths, strict=True) if not path.is_file()]
        if wanted:
            base, local, transforms = self._part(index)
            results = base.get_data_info(local)
            for transform in transforms:
                results = transform(results)
            root = getattr(base, 'data_root', None)
            for cell, path in wanted:
                picture = corrupt_image(results, cell, self.settings.on_the_fly, self.order, root)
                self._write(path, picture if self.order == 'bgr' else picture[..., ::-1])
        return len(paths)

    def digests(self) -> dict[str, str]:
        """Per name without its suffix, what tells the image with its annotations from others of that name."""
        infos = (base.get_data_info(index) for base, _ in self.parts for index in range(len(base)))
        return {stem: image_digest(info) for (stem, _), info in zip(self.names, infos, strict=True)}

    def _part(self, index: int) -> tuple[Any, int, list[Any]]:
        for base, transforms in self.parts:
            if index < len(base):
                return base, index, transforms
            index -= len(base)
        raise IndexError(index)

    def _file(self, index: int) -> str:
        name, suffix = self.names[index]
        return name + (suffix if suffix.lower() in SUFFIXES[self.settings.form] else f'.{self.settings.form}')

    def _write(self, path: Path, bgr: np.ndarray) -> None:
        quality = [cv2.IMWRITE_JPEG_QUALITY, self.settings.quality] if self.settings.form == 'jpg' else []
        _, content = cv2.imencode(f'.{self.settings.form}', np.ascontiguousarray(bgr.astype(np.uint8)), quality)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with appearing_whole(path) as part:
                part.write_bytes(content.tobytes())
        except OSError as error:
            raise MmsharpError(f'cannot write {path} ({error.strerror})') from error


def _until_corruption(dataset: Any) -> list[Any]:
    """The transforms before the corruption."""
    transforms = transforms_of(dataset.pipeline) or []
    for index, transform in enumerate(transforms):
        if isinstance(transform, CorruptCurrentCell):
            return transforms[:index]
    raise MmsharpError(
        f'the pipeline of {type(dataset).__name__} loads images in branches, so there is no one picture to write; '
        'give it a plain pipeline'
    )


def _without_opencv_threads(worker: int) -> None:
    """As MMEngine's own workers: the processes share the processor already."""
    cv2.setNumThreads(0)


def _name(dataset: Any, index: int) -> tuple[str, str]:
    """The path of an image in a cell, and its suffix: below the folder of the images, else by class and number."""
    info = dataset.get_data_info(index)
    if info.get('img_path') is None:
        label = info.get('gt_label')
        folder = '' if label is None else f'{_class_name(dataset, int(label))}/'
        return f'{folder}{index:06d}', ''
    root = getattr(dataset, 'img_prefix', None) or getattr(dataset, 'data_root', None)
    name = PurePosixPath(image_id({'img_path': info['img_path']}, root))
    return str(name.with_suffix('')), name.suffix


def _class_name(dataset: Any, label: int) -> str:
    classes = (dataset.metainfo or {}).get('classes')
    return str(label) if classes is None else str(classes[label]).replace('/', '_')


def _manifest(cfg: Config, dataset: Any, settings: TreeSettings, placement: Placement) -> dict[str, Any]:
    found = versions(cfg.get('default_scope'))
    return {
        **Computed(settings.on_the_fly).identity(),
        'position': placement.position,
        'format': settings.form,
        'quality': settings.quality if settings.form == 'jpg' else None,
        'images': len(dataset),
        'data_sha256': data_sha256(dataset),
        'versions': {name: found[name] for name in DECISIVE if name in found},
    }


def _settle_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write how the tree is made, or compare where it is begun already.

    Raises:
        MmsharpError: It was made otherwise, or there are pictures and nobody says how they were made.
    """
    path = folder / TREE_MANIFEST
    if path.is_file():
        differences = describe_differences(read_json(path, 'choose another folder'), manifest)
        if differences:
            raise MmsharpError(
                f'{str(folder)!r} holds a tree that was made otherwise: {"; ".join(differences)}. Choose another folder'
            )
        return
    if any(folder.iterdir()):
        raise MmsharpError(f'{str(folder)!r} is not empty and no tree of this tool; choose another folder')
    write_json(path, manifest)
