"""Images that cannot be read: found before the evaluation, left out of all of its cells, and named."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mmsharp.datasets.transforms import CurrentCell, TakeCurrentCell, UnreadableImageError
from mmsharp.engine.pipelines import base_datasets, transforms_of, walk
from mmsharp.errors import MmsharpError, deliberate_refusal
from mmsharp.robustness import Cell


@dataclass(frozen=True)
class BadImage:
    """An image of a data set that cannot be read: its index, its path, the first cell it fails in, and why."""

    index: int
    image: str
    cell: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The fields, without the index, which means nothing once images are left out."""
        return {key: value for key, value in asdict(self).items() if key != 'index'}


def find_bad_images(
    dataset: Any, current: CurrentCell, cells: Iterable[Cell], workers: int = 0, show: bool = True
) -> list[BadImage]:
    """Read every image in every given cell through the pipeline of a dataset.

    Args:
        dataset: With guarded loading transforms.
        current: The cell that its pipeline gives; the clean one afterwards.
        cells: Which to read; for corruptions that are computed the clean one says it all.
        workers: Processes that read.
        show: Whether to show how far it is.

    Returns:
        The images that cannot be read, each once, in the order of the dataset.
    """
    bad: dict[int, BadImage] = {}
    try:
        for cell in cells:
            current.set(cell)
            loader = DataLoader(_Readable(dataset), batch_size=None, num_workers=workers)
            bar = tqdm(loader, f'reading images, {cell}', leave=False, disable=not show)
            for index, found in enumerate(bar):
                if found is not None:
                    bad.setdefault(index, BadImage(index, found[0], str(cell), found[1]))
    finally:
        current.set(Cell.clean())
    return [bad[index] for index in sorted(bad)]


def leave_out(dataset: Any, loader: Any, sampler: Any, metrics: Iterable[Any], indices: Sequence[int]) -> None:
    """Take images out of a built dataset, of the sampler of its loader, and of what metrics take for the ground truth.

    Args:
        dataset: Of MMEngine's kind or a concatenation of such; changed in place, as the others.
        loader: Its data loader, not started yet.
        sampler: The config of the loader's sampler.
        metrics: The evaluator's; those that read an annotation file of their own are told which images are left.
        indices: What to take out.

    Raises:
        MmsharpError: A dataset cannot be made smaller, or nothing would be left.
    """
    gone = set(indices)
    if len(gone) == len(dataset):
        raise MmsharpError(f'none of the {len(dataset)} test images can be read; look at data_root and data_prefix')
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


class _Readable(Dataset[tuple[str, str] | None]):
    """For each image of a dataset ``None``, or its path and what is wrong with it."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[str, str] | None:
        try:
            self.dataset[index]
        except UnreadableImageError as error:
            path = str(self.dataset.get_data_info(index).get('img_path', index))
            return path, deliberate_refusal(error) or str(error)
        return None


def _recount(dataset: Any) -> None:
    """Let concatenations count their parts anew, the inner ones first."""
    parts = getattr(dataset, 'datasets', None)
    if isinstance(parts, (list, tuple)):
        for part in parts:
            _recount(part)
        dataset.cumulative_sizes = dataset.cumsum(parts)
