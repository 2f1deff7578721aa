"""Images that cannot be read or corrupted: found before the evaluation, left out of all of its cells, and named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mmsharp.datasets.transforms import CurrentCell, TakeCurrentCell, UnreadableImageError
from mmsharp.engine.configs.pipelines import base_datasets, transforms_of, walk
from mmsharp.engine.robustness.sources import Reading
from mmsharp.errors import MmsharpError, deliberate_refusal
from mmsharp.files import read_json, write_json
from mmsharp.robustness import Cell, TooSmallImageError
from mmsharp.robustness.results import identity_digest

CORRUPTED = 'all but clean'
"""The cells that an image fails in which is too small to be corrupted."""


@dataclass(frozen=True)
class BadImage:
    """An image of a data set that cannot be read or corrupted: index, path, the first cell it fails in, and why."""

    index: int
    image: str
    cell: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The fields, without the index, which means nothing once images are left out."""
        return {key: value for key, value in asdict(self).items() if key != 'index'}


Scan = dict[str, list[BadImage]]
"""The images that cannot be read, or corrupted where sizes counted, for every reading, by its name."""


def find_bad_images(
    dataset: Any,
    current: CurrentCell,
    readings: Iterable[Reading],
    workers: int = 0,
    show: bool = True,
    part: tuple[int, int] = (0, 1),
) -> Scan:
    """Read every image in every given way through the pipeline of a dataset.

    Args:
        dataset: With guarded loading transforms.
        current: The cell that its pipeline gives; the clean one afterwards.
        readings: Which cells to read, and whether images that are too small to be corrupted count as bad.
        workers: Processes that read.
        show: Whether to show how far it is.
        part: Which of how many parts of the dataset to read; the parts are of one size.
    """
    found: Scan = {}
    indices = range(part[0], len(dataset), part[1])
    try:
        for reading in readings:
            current.set(reading.cell, reading.sized)
            loader = DataLoader(_Readable(dataset, indices), batch_size=None, num_workers=workers)
            bar = tqdm(loader, f'reading images, {reading.cell}', leave=False, disable=not show)
            found[str(reading)] = [
                BadImage(index, image=bad.image, cell=bad.cell or str(reading.cell), reason=bad.reason)
                for index, bad in zip(indices, bar, strict=True)
                if bad is not None
            ]
    finally:
        current.set(Cell.clean())
    return found


def all_bad_images(scan: Scan) -> list[BadImage]:
    """The images that cannot be read in any cell of a scan, each once, in the order of the dataset.

    Example:
        >>> scan = {'fog/1': [BadImage(7, 'b.png', 'fog/1', 'torn')], 'fog/2': [BadImage(3, 'a.png', 'fog/2', 'torn')]}
        >>> [bad.image for bad in all_bad_images(scan)]
        ['a.png', 'b.png']
    """
    bad: dict[int, BadImage] = {}
    for found in scan.values():
        for image in found:
            bad.setdefault(image.index, image)
    return [bad[index] for index in sorted(bad)]


class ScanFile:
    """What was found unreadable, kept in the results folder, so that not every start reads all images anew.

    Args:
        path: The file.
        identity: What the images depend on; a scan of others is not used.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.digest = identity_digest(identity)

    def load(self, dataset: Any, current: CurrentCell) -> Scan:
        """The scan, as long as what could not be read then cannot be read now; else an empty one."""
        try:
            content = read_json(self.path, 'it is made anew')
            if content['identity'] != self.digest:
                return {}
            scan = {cell: [BadImage(**image) for image in found] for cell, found in content['cells'].items()}
            readings = {name: Reading.of(name) for name in scan}
        except (MmsharpError, KeyError, TypeError, ValueError, AttributeError):
            return {}
        try:
            for name, found in scan.items():
                current.set(readings[name].cell, readings[name].sized)
                if any(_Readable(dataset, [image.index])[0] is None for image in found):
                    return {}
        finally:
            current.set(Cell.clean())
        return scan

    def save(self, scan: Scan) -> None:
        """Keep a scan."""
        cells = {cell: [asdict(image) for image in found] for cell, found in scan.items()}
        write_json(self.path, {'identity': self.digest, 'cells': cells})

    def forget(self) -> None:
        """Let the next start read all images: one that could be read could not any more."""
        self.path.unlink(missing_ok=True)


def leave_out(dataset: Any, loader: Any, sampler: Any, metrics: Iterable[Any], bad: Sequence[BadImage]) -> None:
    """Take images out of a built dataset, of the sampler of its loader, and of what metrics take for the ground truth.

    Args:
        dataset: Of MMEngine's kind or a concatenation of such; changed in place, as the others.
        loader: Its data loader, not started yet.
        sampler: The config of the loader's sampler.
        metrics: The evaluator's; those that read an annotation file of their own are told which images are left.
        bad: What to take out.

    Raises:
        MmsharpError: A dataset cannot be made smaller, or nothing would be left.
    """
    gone = {image.index for image in bad}
    if len(gone) == len(dataset):
        raise MmsharpError(f'none of the {len(dataset)} test images is left; the first: {bad[0].reason}')
    start = 0
    for base in base_datasets(dataset):
        size = len(base)
        kept = [index for index in range(size) if start + index not in gone]
        start += size
        if not hasattr(base, 'get_subset_'):
            raise MmsharpError(f'images of {type(base).__name__} cannot be left out; mend them, or stop at the first')
        if len(kept) < size:
            base.get_subset_(kept)
            for transform in walk(transforms_of(getattr(base, 'pipeline', None)) or []):
                if isinstance(transform, TakeCurrentCell):
                    transform.keep(kept)
    _recount(dataset)
    if len(dataset) + len(gone) != start:
        raise MmsharpError(f'{type(dataset).__name__} repeats images, which cannot be left out; mend them')
    rebuilt = DATA_SAMPLERS.build(dict(sampler), default_args={'dataset': dataset, 'seed': 0})
    vars(loader.sampler).update(vars(rebuilt))
    for metric in metrics:
        if hasattr(metric, 'img_ids'):
            metric.img_ids = [dataset.get_data_info(index)['img_id'] for index in range(len(dataset))]


class _Damage(NamedTuple):
    """Of an image that cannot be read or corrupted: its path, why, and where it fails if not where it was read."""

    image: str
    reason: str
    cell: str | None = None


class _Readable(Dataset[_Damage | None]):
    """For each chosen image of a dataset ``None``, or what is wrong with it."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> _Damage | None:
        chosen = self.indices[index]
        try:
            self.dataset[chosen]
        except (UnreadableImageError, TooSmallImageError) as error:
            path = str(self.dataset.get_data_info(chosen).get('img_path', chosen))
            where = CORRUPTED if isinstance(error, TooSmallImageError) else None
            return _Damage(path, deliberate_refusal(error) or str(error), where)
        return None


def _recount(dataset: Any) -> None:
    """Let concatenations count their parts anew, the inner ones first."""
    parts = getattr(dataset, 'datasets', None)
    if isinstance(parts, (list, tuple)):
        for part in parts:
            _recount(part)
        dataset.cumulative_sizes = dataset.cumsum(parts)
