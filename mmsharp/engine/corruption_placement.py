"""Put the corruption where it belongs in the pipelines of a built dataset, found by what the transforms are.

Detectors: right after the loading transform, so that the picture is spoilt as a camera would deliver it (Michaelis et
al. 2019). Classifiers: after the deterministic resize and crop, because ImageNet-C was made from images of 224x224
(Hendrycks and Dietterich 2019). Wrapped datasets, branches and test-time augmentation are searched through.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from mmcv.transforms import LoadImageFromFile

from mmsharp.datasets.transforms import CorruptCurrentCell, CurrentCell, GuardedLoading
from mmsharp.datasets.transforms.corrupt import ChannelOrder
from mmsharp.errors import MmsharpError
from mmsharp.robustness import Backend, Constants
from mmsharp.type_names import class_names

Position = Literal['auto', 'after_loading', 'after_crop']
POSITIONS: tuple[Position, ...] = ('auto', 'after_loading', 'after_crop')
GEOMETRIC = ('Resize', 'ResizeEdge', 'CenterCrop', 'EfficientNetCenterCrop', 'Pad')
CLASSIFIER_PACKING = ('PackInputs', 'PackMultiTaskInputs')


@dataclass(frozen=True)
class Placement:
    """Where the corruption went, and how the images lie there; part of the identity of the results."""

    position: Position
    image_order: ChannelOrder


def place_corruption(
    dataset: Any,
    current: CurrentCell,
    seed: int = 0,
    channel_order: ChannelOrder = 'rgb',
    image_order: ChannelOrder | Literal['auto'] = 'auto',
    position: Position = 'auto',
    backend: Backend = 'mmsharp',
    constants: Constants = 'auto',
) -> Placement:
    """Insert the corruption of the current cell into every pipeline of ``dataset``, and guard its loading transforms.

    Args:
        dataset: A built dataset, possibly a wrapper of others.
        current: The cell to corrupt with; switch it between passes.
        seed: See :class:`mmsharp.Corrupt`.
        channel_order: See :class:`mmsharp.Corrupt`.
        image_order: ``'auto'`` takes BGR where a loading transform reads files, as MMCV does, and RGB where the dataset
            holds arrays, as MMPretrain's do.
        position: ``'auto'`` takes ``'after_crop'`` where the pipeline packs for MMPretrain's classifiers and
            ``'after_loading'`` elsewhere.
        backend: See :class:`mmsharp.Corrupt`.
        constants: See :class:`mmsharp.Corrupt`.

    Raises:
        MmsharpError: If a dataset has no pipeline, or a pipeline has no place for the corruption.
    """
    if position not in POSITIONS:
        raise MmsharpError(f'position {position!r} is none of {", ".join(POSITIONS)}')
    placements = set()
    for base in base_datasets(dataset):
        transforms = _transforms_of(getattr(base, 'pipeline', None))
        if transforms is None:
            raise MmsharpError(f'{type(base).__name__} has no pipeline of transforms to put the corruption in')
        loads = any(is_loading(transform) for transform in _walk(transforms))
        order: ChannelOrder = ('bgr' if loads else 'rgb') if image_order == 'auto' else image_order
        where = position
        if where == 'auto':
            packs = any(_is_a(transform, CLASSIFIER_PACKING) for transform in _walk(transforms))
            where = 'after_crop' if packs else 'after_loading'
        root = getattr(base, 'data_root', None)
        corrupt = CorruptCurrentCell(current, seed, channel_order, order, root, backend, constants)
        if where == 'after_crop':
            _insert_after_crop(transforms, corrupt)
        elif not _insert_after(transforms, corrupt, is_loading):
            raise MmsharpError(
                f'no loading transform found in the pipeline of {type(base).__name__} '
                f'({", ".join(type(transform).__name__ for transform in transforms)}); '
                'the corruption goes right after it. Put a LoadImageFromFile there'
            )
        _guard_loading(transforms)
        placements.add(Placement(where, order))
    if len(placements) != 1:
        raise MmsharpError(f'the datasets want different places for the corruption: {placements}; evaluate them apart')
    return placements.pop()


def base_datasets(dataset: Any) -> Iterator[Any]:
    """The datasets inside concatenations and other wrappers, or the dataset itself."""
    if isinstance(getattr(dataset, 'datasets', None), (list, tuple)):
        for inner in dataset.datasets:
            yield from base_datasets(inner)
    elif getattr(dataset, 'dataset', None) is not None:
        yield from base_datasets(dataset.dataset)
    else:
        yield dataset


def is_loading(transform: Any) -> bool:
    """Whether a transform reads the image: MMCV's, a subclass, or one named like ``LoadImageFrom...``."""
    if isinstance(transform, (LoadImageFromFile, GuardedLoading)):
        return True
    return any(name.startswith('Load') and 'Image' in name for name in class_names(transform))


def guard_loading(dataset: Any) -> None:
    """Let every loading transform of a dataset refuse truncated files; twice is as once.

    See :class:`mmsharp.datasets.transforms.GuardedLoading`. A dataset without a pipeline is left alone.
    """
    for base in base_datasets(dataset):
        transforms = _transforms_of(getattr(base, 'pipeline', None))
        if transforms is not None:
            _guard_loading(transforms)


def _insert_after(transforms: list[Any], corrupt: Any, wanted: Callable[[Any], bool]) -> bool:
    """Insert behind the last wanted transform of the list or, where it has none, of every list nested in it."""
    found = [index for index, transform in enumerate(transforms) if wanted(transform)]
    if found:
        transforms.insert(found[-1] + 1, corrupt)
        return True
    # Every branch has to get it: any() would stop at the first.
    return any([_insert_after(inner, corrupt, wanted) for item in transforms for inner in _nested(item)])


def _insert_after_crop(transforms: list[Any], corrupt: Any) -> None:
    if not _insert_after(transforms, corrupt, lambda item: _is_a(item, GEOMETRIC)) and not _insert_after(
        transforms, corrupt, is_loading
    ):
        transforms.insert(0, corrupt)


def _guard_loading(transforms: list[Any]) -> None:
    for index, transform in enumerate(transforms):
        if is_loading(transform) and not isinstance(transform, GuardedLoading):
            transforms[index] = GuardedLoading(transform)
        for inner in _nested(transform):
            _guard_loading(inner)


def _transforms_of(pipeline: Any) -> list[Any] | None:
    """The list that a pipeline runs through: a ``Compose`` of MMEngine or MMCV, or a plain list."""
    transforms = getattr(pipeline, 'transforms', pipeline)
    return transforms if isinstance(transforms, list) else None


def _nested(transform: Any) -> Iterator[list[Any]]:
    """The lists of transforms inside a wrapper: branches, views, choices, each once although it may be held twice."""
    if transform.__class__.__module__.startswith('torchvision.'):
        return
    seen: set[int] = set()
    for attribute in ('transforms', 'subroutines', 'pipelines'):
        value = getattr(transform, attribute, None)
        if value is None:
            continue
        inner = _transforms_of(value)
        for branch in [inner] if inner is not None and not _is_list_of_branches(inner) else (inner or []):
            found = _transforms_of(branch)
            if found is not None and id(found) not in seen:
                seen.add(id(found))
                yield found


def _is_list_of_branches(transforms: list[Any]) -> bool:
    return all(isinstance(item, list) or type(item).__name__ == 'Compose' for item in transforms)


def _walk(transforms: list[Any]) -> Iterator[Any]:
    for transform in transforms:
        yield transform
        for inner in _nested(transform):
            yield from _walk(inner)


def _is_a(transform: Any, names: tuple[str, ...]) -> bool:
    return not set(names).isdisjoint(class_names(transform))
