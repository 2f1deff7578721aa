"""The part of a model that is a plain function of images: no proposals, no non-maximum suppression, no samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class RawOutputs(nn.Module):
    """Images in, a flat tuple of tensors out, in evaluation mode.

    Classifiers give their scores before the softmax, single-stage detectors what their head gives for every level. Of
    two-stage detectors, whose second stage depends on what the first one finds, the neck's feature maps and the
    outputs of the region proposal network are given (the feature maps alone of a cascaded one, whose stages depend on
    each other's boxes); of detectors whose masks depend on the boxes, what the head of the boxes gives; of those that
    find masks alone, as SOLO, what their head gives to its losses, before it keeps local maxima only: which of two
    nearly equal scores is larger is rounding. Detectors that mask padding, as DETR, get images without any.

    Args:
        model: A model of MMDetection or MMPretrain, or any module that takes images alone; not copied.

    Example:
        >>> RawOutputs(nn.Sequential(nn.Conv2d(3, 2, 1))).names(torch.zeros(1, 3, 4, 4))
        ['output']
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.needs_samples = False
        for module in self.modules():
            module.training = False

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Shape ``(N, C, H, W)``, preprocessed; the tensors of :meth:`names`, in that order."""
        return tuple(tensor for _, tensor in _flat(self._raw(images)))

    @torch.no_grad()
    def names(self, images: Tensor) -> list[str]:
        """What the outputs are called: the part of the model or ``output``, then the position at every depth."""
        try:
            return [name for name, _ in _flat(self._raw(images))]
        except Exception:  # the model's own code, which says in many ways that it needs data samples
            if not hasattr(self.model, 'data_preprocessor') or unpadded_samples(images) is None:
                raise
            self.needs_samples = True
        try:
            return [name for name, _ in _flat(self._raw(images))]
        except Exception:
            self.needs_samples = False
            raise

    @property
    def is_partial(self) -> bool:
        """Whether the model computes more than these outputs show."""
        return self._has('rpn_head', 'roi_head') or self._has('mask_head')

    def _has(self, *parts: str) -> bool:
        return all(getattr(self.model, part, None) is not None for part in parts)

    def _raw(self, images: Tensor) -> Any:
        model: Any = self.model
        if self._has('rpn_head', 'roi_head'):
            features = model.extract_feat(images)
            cascaded = type(model.rpn_head).forward is nn.Module.forward
            return {'neck': features} if cascaded else {'neck': features, 'rpn': model.rpn_head(features)}
        if self._has('bbox_head', 'mask_head'):
            return model.bbox_head(model.extract_feat(images))
        if self._has('mask_head'):
            with _training_alone(model.mask_head):
                return model.mask_head(model.extract_feat(images))
        if self.needs_samples:
            return model(images, unpadded_samples(images), mode='tensor')
        if hasattr(self.model, 'data_preprocessor'):
            return self.model(images, mode='tensor')
        return self.model(images)


def unpadded_samples(images: Tensor) -> list[Any] | None:
    """Data samples of MMDetection for images that fill their batch; ``None`` where it is not installed."""
    try:
        from mmdet.structures import DetDataSample
    except ImportError:
        return None
    size = tuple(int(length) for length in images.shape[2:])
    known = dict(batch_input_shape=size, img_shape=size, pad_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    return [DetDataSample(metainfo=known) for _ in range(len(images))]


@contextmanager
def _training_alone(module: nn.Module) -> Iterator[None]:
    """A module that takes itself to be in training, while its layers are not."""
    module.training = True
    try:
        yield
    finally:
        module.training = False


def _flat(value: Any, name: str = '') -> list[tuple[str, Tensor]]:
    """Every tensor of nested sequences and mappings with its name, which no other has."""
    if isinstance(value, Tensor):
        return [(name or 'output', value)]
    if isinstance(value, Mapping):
        parts = [(f'{name}_{key}' if name else str(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        parts = [(f'{name or "output"}_{place}', item) for place, item in enumerate(value)]
    else:
        parts = []
    found = [pair for inner, item in parts for pair in _flat(item, inner)]
    taken: set[str] = set()
    for place, (inner, tensor) in enumerate(found):
        while inner in taken:
            inner += '_'
        taken.add(inner)
        found[place] = (inner, tensor)
    return found


def preprocessing(model: nn.Module) -> dict[str, Any]:
    """How a model's images are made ready, and what its classes are, in JSON types.

    Returns:
        ``mean`` and ``std`` per channel on the scale 0 to 255 (absent where images are not normalised), ``channels``
        where their order is reversed first, ``pad_size_divisor``, and ``classes`` where the checkpoint names them.

    Example:
        >>> preprocessing(nn.Linear(1, 1))
        {}
    """
    preprocessor: Any = getattr(model, 'data_preprocessor', None)
    found: dict[str, Any] = {}
    for name in ('mean', 'std'):
        if isinstance(getattr(preprocessor, name, None), Tensor):
            found[name] = [float(f'{float(value):.6g}') for value in getattr(preprocessor, name).flatten()]
    if getattr(preprocessor, '_channel_conversion', getattr(preprocessor, 'to_rgb', False)):
        found['channels'] = 'reversed: loaded as BGR, given to the network as RGB or the other way round'
    if isinstance(getattr(preprocessor, 'pad_size_divisor', None), int):
        found['pad_size_divisor'] = preprocessor.pad_size_divisor
    classes = (getattr(model, 'dataset_meta', None) or {}).get('classes')
    return {**found, 'classes': list(classes)} if classes else found
