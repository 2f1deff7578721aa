"""The pipelines of built data sets: what they are made of, through wrappers, branches and test-time augmentation."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile

from mmsharp.datasets.transforms import GuardedLoading
from mmsharp.type_names import class_names

BRANCHES = ('transforms', 'subroutines', 'pipelines', 'branch_pipelines')
"""Where wrappers of MMCV, MMEngine, MMDetection and MMPretrain keep the transforms they wrap."""
TORCHVISION_WRAPPER = 'TorchVisonTransformWrapper'
"""MMPretrain's class, spelt as there."""


def base_datasets(dataset: Any) -> Iterator[Any]:
    """The datasets inside concatenations and other wrappers, or the dataset itself."""
    if isinstance(getattr(dataset, 'datasets', None), (list, tuple)):
        for inner in dataset.datasets:
            yield from base_datasets(inner)
    elif getattr(dataset, 'dataset', None) is not None:
        yield from base_datasets(dataset.dataset)
    else:
        yield dataset


def transforms_of(pipeline: Any) -> list[Any] | None:
    """The list that a pipeline runs through, a ``Compose`` of MMEngine or MMCV or a plain list; it may be changed."""
    transforms = getattr(pipeline, 'transforms', pipeline)
    return transforms if isinstance(transforms, list) else None


def walk(transforms: list[Any]) -> Iterator[Any]:
    """Every transform of a list, and those inside its wrappers."""
    for transform in transforms:
        yield transform
        for inner in nested(transform):
            yield from walk(inner)


def nested(transform: Any) -> Iterator[list[Any]]:
    """The lists of transforms inside a wrapper: branches, views, choices, each once although it may be held twice."""
    if transform.__class__.__module__.startswith('torchvision.'):
        return
    seen: set[int] = set()
    for attribute in BRANCHES:
        value = getattr(transform, attribute, None)
        if value is None:
            continue
        if isinstance(value, dict):
            value = list(value.values())
        inner = transforms_of(value)
        for branch in [inner] if inner is not None and not _is_list_of_branches(inner) else (inner or []):
            found = transforms_of(branch)
            if found is not None and id(found) not in seen:
                seen.add(id(found))
                yield found


def insert_after(transforms: list[Any], new: Any, wanted: Callable[[Any], bool]) -> bool:
    """Insert behind the last wanted transform of the list or, where it has none, of every list nested in it.

    Returns:
        Whether there was a place.
    """
    found = [index for index, transform in enumerate(transforms) if wanted(transform)]
    if found:
        transforms.insert(found[-1] + 1, new)
        return True
    # Every branch has to get it: any() would stop at the first.
    return any([insert_after(inner, new, wanted) for item in transforms for inner in nested(item)])


def replace(transforms: list[Any], wanted: Callable[[Any], bool], new: Callable[[Any], Any]) -> None:
    """Put ``new(transform)`` in the place of every wanted transform, in nested lists too."""
    for index, transform in enumerate(transforms):
        for inner in nested(transform):
            replace(inner, wanted, new)
        if wanted(transform):
            transforms[index] = new(transform)


def is_a(transform: Any, names: tuple[str, ...]) -> bool:
    """Whether a transform, or a class that it derives from, has one of these names.

    MMPretrain's wrapper of a torchvision transform, ``dict(type='torchvision/Resize')``, counts as what it wraps.
    """
    wrapped = getattr(transform, 't', None) if type(transform).__name__ == TORCHVISION_WRAPPER else None
    return not set(names).isdisjoint(class_names(transform if wrapped is None else wrapped))


def held_array(dataset: Any) -> Any:
    """The first picture of a dataset that holds its pictures as arrays; ``None`` where it names files, or is empty."""
    if not hasattr(dataset, 'get_data_info') or len(dataset) == 0:
        return None
    picture = dataset.get_data_info(0).get('img')
    return picture if isinstance(picture, np.ndarray) else None


def is_loading(transform: Any) -> bool:
    """Whether a transform reads the image: MMCV's, a subclass, or one named like ``LoadImageFrom...``."""
    if isinstance(transform, (LoadImageFromFile, GuardedLoading)):
        return True
    return any(name.startswith('Load') and 'Image' in name for name in class_names(transform))


def guard_loading(dataset: Any, training: bool = False) -> None:
    """Let every loading transform of a dataset refuse truncated files; twice is as once.

    See :class:`mmsharp.datasets.transforms.GuardedLoading`. A dataset without a pipeline is left alone.

    Args:
        dataset: A built data set.
        training: Whether it is trained on. Then a transform with ``ignore_empty=True`` asks for another image in the
            place of one that cannot be read.
    """

    def wanted(item: Any) -> bool:
        return isinstance(item, GuardedLoading) or is_loading(item)

    def guarded(item: Any) -> GuardedLoading:
        guard = item if isinstance(item, GuardedLoading) else GuardedLoading(item)
        guard.ignore = training and bool(getattr(guard.loading, 'ignore_empty', False))
        return guard

    for base in base_datasets(dataset):
        transforms = transforms_of(getattr(base, 'pipeline', None))
        if transforms is not None:
            replace(transforms, wanted, guarded)


def _is_list_of_branches(transforms: list[Any]) -> bool:
    return all(isinstance(item, list) or type(item).__name__ == 'Compose' for item in transforms)
