"""A mask entry for every weight of every convolution and linear layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search.hard_masks import kept_count
from mmsharp.pruning.mask_search.units import MaskUnits

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


class WeightUnits(MaskUnits):
    """``w * C`` per weight; biases and normalisations have no mask.

    The ratio is met in every layer by itself, as HYDRA does and as C-SAM's predecessor is reported to do.

    Args:
        model: The dense model.
        ratio: The share of the weights of each layer that goes.
        ignore: Patterns (``fnmatch``) of paths of layers that stay whole.

    Raises:
        MmsharpError: The ratio is out of range, no layer is left, or a pattern matches none.

    Example:
        >>> import torch
        >>> units = WeightUnits(nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 1)), ratio=0.5)
        >>> units.shapes, units.kept
        ({'0.weight': (2, 4), '2.weight': (1, 2)}, {'0.weight': 4, '2.weight': 1})
    """

    def __init__(self, model: nn.Module, ratio: float, ignore: Sequence[str] = ()) -> None:
        self.shapes, self.kept, self._fan_in = {}, {}, {}
        layers = {path: module for path, module in model.named_modules() if isinstance(module, LAYERS)}
        for pattern in ignore:
            if not any(fnmatchcase(path, pattern) for path in layers):
                raise MmsharpError(f'ignore pattern {pattern!r} matches no convolution or linear layer of the model')
        for path, module in layers.items():
            weight = module._parameters.get('weight')
            if weight is None or any(fnmatchcase(path, pattern) for pattern in ignore):
                continue
            name = f'{path}.weight' if path else 'weight'
            self.shapes[name] = tuple(weight.shape)
            self.kept[name] = kept_count(weight.numel(), ratio)
            self._fan_in[name] = math.prod(weight.shape[1:])
        if not self.shapes:
            raise MmsharpError(f'{type(model).__name__} has no convolution or linear layer to search masks for')

    def values(self, model: nn.Module) -> dict[str, Tensor]:
        """The weights."""
        return {name: model.get_parameter(name).detach() for name in self.shapes}

    def fan_in(self, name: str) -> int:
        """Input channels per group times the size of the kernel."""
        return self._fan_in[name]

    def masked(self, model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``w * C``."""
        return {name: model.get_parameter(name) * mask for name, mask in masks.items()}
