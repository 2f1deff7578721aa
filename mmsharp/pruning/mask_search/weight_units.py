"""A mask entry for every weight of every convolution and linear layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search.hard_masks import kept_count
from mmsharp.pruning.mask_search.units import MaskUnits

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


class WeightUnits(MaskUnits):
    """``w * C`` per weight; biases and normalisations have no mask.

    The ratio is met in every layer by itself, as HYDRA does and as C-SAM's predecessor is reported to do. Layers that
    own one weight together have one mask. Whole stay, with a reason in :attr:`whole`: layers whose weights are frozen,
    those whose weight is computed from other parameters (``weight_norm``, ``parametrizations``), and matrices that are
    of no convolution or linear layer, such as ``in_proj_weight`` of ``nn.MultiheadAttention``.

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
        >>> WeightUnits(nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 1).requires_grad_(False)), ratio=0.5).whole
        {'1.weight': 'its weights are frozen'}
    """

    def __init__(self, model: nn.Module, ratio: float, ignore: Sequence[str] = ()) -> None:
        self.shapes, self.kept, self._fan_in, self.whole = {}, {}, {}, {}
        layers = {path: module for path, module in model.named_modules() if isinstance(module, LAYERS)}
        for pattern in ignore:
            if not any(fnmatchcase(path, pattern) for path in layers):
                raise MmsharpError(f'ignore pattern {pattern!r} matches no convolution or linear layer of the model')
        seen: set[int] = set()
        for path, module in model.named_modules():
            if path in layers and any(fnmatchcase(path, pattern) for pattern in ignore):
                continue
            for own, parameter in module._parameters.items():
                if parameter is None or parameter.dim() < 2 or id(parameter) in seen:
                    continue
                seen.add(id(parameter))
                name = f'{path}.{own}' if path else own
                reason = _why_whole(module, own, parameter)
                if reason:
                    self.whole[name] = reason
                    continue
                self.shapes[name] = tuple(parameter.shape)
                self.kept[name] = kept_count(parameter.numel(), ratio, name)
                self._fan_in[name] = _inputs_of(module)
        if not self.shapes:
            because = f'; {len(self.whole)} parameters stay whole: {_listed(self.whole)}' if self.whole else ''
            raise MmsharpError(
                f'{type(model).__name__} has no convolution or linear layer to search masks for{because}'
            )

    def values(self, model: nn.Module) -> dict[str, Tensor]:
        """The weights."""
        return {name: model.get_parameter(name).detach() for name in self.shapes}

    def fan_in(self, name: str) -> int:
        """Input channels per group times the size of the kernel."""
        return self._fan_in[name]

    def masked(self, model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``w * C``."""
        return {name: model.get_parameter(name) * mask for name, mask in masks.items()}


def _why_whole(module: nn.Module, own: str, parameter: nn.Parameter) -> str:
    if not isinstance(module, LAYERS) and not isinstance(module, ParametrizationList):
        return 'it is not the weight of a convolution or linear layer'
    if own != 'weight':
        return 'a weight is computed from it, by weight_norm or a parametrization'
    return '' if parameter.requires_grad else MaskUnits.FROZEN


def _inputs_of(module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return module.in_features
    assert isinstance(module, nn.modules.conv._ConvNd)
    return module.in_channels // module.groups * math.prod(module.kernel_size)


def _listed(whole: Mapping[str, str]) -> str:
    return ', '.join(f'{name} ({reason})' for name, reason in list(whole.items())[:3])
