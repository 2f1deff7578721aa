"""Put the corruption where it belongs in the pipelines of a built dataset, found by what the transforms are.

Detectors: right after the loading transform, so that the picture is spoilt as a camera would deliver it (Michaelis et
al. 2019). Classifiers: after the deterministic resize and crop, because ImageNet-C was made from images of 224x224
(Hendrycks and Dietterich 2019). Wrapped datasets, branches and test-time augmentation are searched through.
"""

from typing import Any, Literal

from mmsharp.datasets.transforms import CurrentCell
from mmsharp.engine.pipelines import base_datasets, guard_loading, is_a, is_loading, transforms_of, walk
from mmsharp.engine.robustness.sources import CorruptionSource, Placement, Position
from mmsharp.errors import MmsharpError
from mmsharp.robustness import ChannelOrder, check_order

POSITIONS: tuple[Position, ...] = ('after_loading', 'after_crop')
CLASSIFIER_PACKING = ('PackInputs', 'PackMultiTaskInputs')


def place_corruption(
    dataset: Any,
    current: CurrentCell,
    source: CorruptionSource,
    image_order: ChannelOrder | Literal['auto'] = 'auto',
    position: Position | Literal['auto'] = 'auto',
) -> Placement:
    """Let every pipeline of ``dataset`` give the image of the current cell, and guard its loading transforms.

    Args:
        dataset: A built dataset, possibly a wrapper of others.
        current: The cell whose images are given; switch it between passes.
        source: Where the corrupted images come from.
        image_order: ``'auto'`` takes BGR where a loading transform reads files, as MMCV does, and RGB where the dataset
            holds arrays, as MMPretrain's do.
        position: ``'auto'`` takes what the source prefers or, where it prefers none, ``'after_crop'`` for pipelines
            that pack for MMPretrain's classifiers and ``'after_loading'`` for others.

    Raises:
        MmsharpError: If a dataset has no pipeline, a pipeline has no place for the corruption, or the source does not
            hold the dataset's images.
    """
    if position not in (*POSITIONS, 'auto'):
        raise MmsharpError(f'position {position!r} is none of auto, {", ".join(POSITIONS)}')
    if image_order != 'auto':
        check_order('image_order', image_order)
    guard_loading(dataset)
    placements = set()
    for base in base_datasets(dataset):
        transforms = transforms_of(getattr(base, 'pipeline', None))
        if transforms is None:
            raise MmsharpError(f'{type(base).__name__} has no pipeline of transforms to put the corruption in')
        loads = any(is_loading(transform) for transform in walk(transforms))
        order: ChannelOrder = ('bgr' if loads else 'rgb') if image_order == 'auto' else image_order
        where = position if position != 'auto' else source.position or _position(transforms)
        source.insert(base, transforms, current, Placement(where, order))
        placements.add(Placement(where, order))
    if len(placements) != 1:
        raise MmsharpError(f'the datasets want different places for the corruption: {placements}; evaluate them apart')
    return placements.pop()


def _position(transforms: list[Any]) -> Position:
    packs = any(is_a(transform, CLASSIFIER_PACKING) for transform in walk(transforms))
    return 'after_crop' if packs else 'after_loading'
