"""Put the corruption where it belongs in the pipelines of a built dataset, found by what the transforms are.

Detectors: right after the loading transform, so that the picture is spoilt as a camera would deliver it (Michaelis et
al. 2019). Classifiers: after the deterministic resize and crop, because ImageNet-C was made from images of 224x224
(Hendrycks and Dietterich 2019); but before everything where the dataset holds small arrays, because CIFAR-10-C was made
from the images of 32x32 and a model that takes larger ones is given them enlarged. Wrapped datasets, branches and
test-time augmentation are searched through.
"""

from typing import Any, Literal

from mmsharp.datasets.transforms import CurrentCell
from mmsharp.engine.configs.pipelines import (
    base_datasets,
    guard_loading,
    held_array,
    is_a,
    is_loading,
    transforms_of,
    walk,
)
from mmsharp.engine.robustness.sources import CorruptionSource, Placement, Position
from mmsharp.engine.robustness.sources.source import GEOMETRIC, TO_ARRAY, TO_PIL
from mmsharp.errors import MmsharpError
from mmsharp.robustness import ChannelOrder, check_order

POSITIONS: tuple[Position, ...] = ('after_loading', 'after_crop')
CLASSIFIER_PACKING = ('PackInputs', 'PackMultiTaskInputs')
SMALL_SIDE = 64
"""Both sides up to which the arrays of a dataset are corrupted as they are: CIFAR has 32, Tiny ImageNet 64."""


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
            holds arrays, as MMPretrain's do; behind the transforms around torchvision's, what they leave.
        position: ``'auto'`` takes what the source prefers or, where it prefers none, ``'after_crop'`` for pipelines
            that pack for MMPretrain's classifiers and ``'after_loading'`` for others and for small arrays.

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
        where = position if position != 'auto' else source.position or _position(base, transforms)
        order = image_order if image_order != 'auto' else _order('bgr' if loads else 'rgb', transforms, where)
        source.insert(base, transforms, current, Placement(where, order))
        placements.add(Placement(where, order))
    if len(placements) != 1:
        raise MmsharpError(f'the datasets want different places for the corruption: {placements}; evaluate them apart')
    return placements.pop()


def _position(dataset: Any, transforms: list[Any]) -> Position:
    array = held_array(dataset)
    if array is not None and max(array.shape[:2]) <= SMALL_SIDE:
        return 'after_loading'
    packs = any(is_a(transform, CLASSIFIER_PACKING) for transform in walk(transforms))
    return 'after_crop' if packs else 'after_loading'


def _order(held: ChannelOrder, transforms: list[Any], where: Position) -> ChannelOrder:
    """The order of the channels at a position, of a pipeline that begins with ``held``."""
    steps = list(walk(transforms))
    if where != 'after_crop' or not any(is_a(step, GEOMETRIC) for step in steps):
        return held
    swaps = sum(
        (is_a(step, (TO_PIL,)) and bool(getattr(step, 'to_rgb', False)))
        + (is_a(step, (TO_ARRAY,)) and bool(getattr(step, 'to_bgr', False)))
        for step in steps
    )
    exchanged: ChannelOrder = 'rgb' if held == 'bgr' else 'bgr'
    return exchanged if swaps % 2 else held
