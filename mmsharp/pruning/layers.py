"""The table of prunable layers: which dimension of which tensor is an axis of channels, and what says its size.

Everything that reads or changes the width of a layer (groups, masks, recipes, slimming) goes through this table; a new
kind of layer is one row. Subclasses count, so the toolboxes' own wrappers of PyTorch layers need no row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from mmsharp.pruning.opaque_modules import is_roi_extractor
from mmsharp.type_names import class_names

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Axis:
    """One axis of a layer.

    Args:
        tensors: Dimension of the axis in each parameter or buffer that has it, by name.
        sizes: Attributes of the module that hold the axis' size.
    """

    tensors: Mapping[str, int]
    sizes: tuple[str, ...]


@dataclass(frozen=True)
class LayerKind:
    """One row of the table.

    Args:
        name: Name of the kind, used in recipes.
        matches: Whether a module is of this kind.
        out: The axis of the channels that the layer gives.
        inward: The axis of the channels that the layer sums over; ``None`` for layers that keep channels apart.
    """

    name: str
    matches: Callable[[nn.Module], bool]
    out: Axis
    inward: Axis | None = field(default=None)

    def axis(self, name: str) -> Axis | None:
        """The axis ``'out'`` or ``'in'``."""
        return self.out if name == 'out' else self.inward


LAYER_KINDS: tuple[LayerKind, ...] = (
    LayerKind(
        'DepthwiseConv',
        lambda m: isinstance(m, _CONVOLUTIONS) and 1 < m.groups == m.in_channels == m.out_channels,
        Axis({'weight': 0, 'bias': 0}, ('out_channels', 'in_channels', 'groups')),
    ),
    LayerKind(
        'Conv',
        lambda m: isinstance(m, _CONVOLUTIONS) and m.groups == 1,
        Axis({'weight': 0, 'bias': 0}, ('out_channels',)),
        Axis({'weight': 1}, ('in_channels',)),
    ),
    LayerKind(
        'ConvTranspose',
        lambda m: isinstance(m, _TRANSPOSED) and m.groups == 1,
        Axis({'weight': 1, 'bias': 0}, ('out_channels',)),
        Axis({'weight': 0}, ('in_channels',)),
    ),
    LayerKind(
        'Linear',
        lambda m: isinstance(m, nn.Linear),
        Axis({'weight': 0, 'bias': 0}, ('out_features',)),
        Axis({'weight': 1}, ('in_features',)),
    ),
    LayerKind(
        'DeformConv',
        lambda m: 'DeformConv2d' in class_names(m) and getattr(m, 'groups', None) == 1,
        Axis({'weight': 0}, ('out_channels',)),
        Axis({'weight': 1}, ('in_channels',)),
    ),
    LayerKind(
        'ModulatedDeformConv',
        lambda m: 'ModulatedDeformConv2d' in class_names(m) and getattr(m, 'groups', None) == 1,
        Axis({'weight': 0, 'bias': 0}, ('out_channels',)),
        Axis({'weight': 1}, ('in_channels',)),
    ),
    LayerKind(
        'BatchNorm',
        lambda m: isinstance(m, nn.modules.batchnorm._BatchNorm),
        Axis({'weight': 0, 'bias': 0, 'running_mean': 0, 'running_var': 0}, ('num_features',)),
    ),
    LayerKind('RoIExtractor', is_roi_extractor, Axis({}, ('out_channels',))),
    LayerKind(
        'PReLU',
        lambda m: isinstance(m, nn.PReLU) and m.num_parameters > 1,
        Axis({'weight': 0}, ('num_parameters',)),
    ),
)

KIND_BY_NAME: dict[str, LayerKind] = {kind.name: kind for kind in LAYER_KINDS}


def layer_kind(module: nn.Module) -> LayerKind | None:
    """The row of a module, or ``None`` where the table has none, or its tensors are computed instead of stored.

    Example:
        >>> from torch import nn
        >>> layer_kind(nn.Conv2d(4, 8, 3)).name, layer_kind(nn.Conv2d(8, 8, 3, groups=8)).name
        ('Conv', 'DepthwiseConv')
        >>> layer_kind(nn.Conv2d(8, 8, 3, groups=2)) is None
        True
    """
    for kind in LAYER_KINDS:
        if kind.matches(module):
            stored = module._parameters.keys() | module._buffers.keys()
            return kind if kind.out.tensors.keys() <= stored else None
    return None


def layer_tensors(module: nn.Module, axis: Axis) -> dict[str, tuple[Tensor, int]]:
    """The tensors of a module that have the axis, each with its dimension; absent ones (no bias) are left out.

    Example:
        >>> from torch import nn
        >>> sorted(layer_tensors(nn.Linear(2, 3, bias=False), KIND_BY_NAME['Linear'].out))
        ['weight']
    """
    found: dict[str, tuple[Tensor, int]] = {}
    for name, dim in axis.tensors.items():
        parameter = module._parameters.get(name)
        tensor = module._buffers.get(name) if parameter is None else parameter
        if tensor is not None:
            found[name] = (tensor, dim)
    return found


def axis_size(module: nn.Module, axis: Axis) -> int:
    """Number of channels along an axis, by the module's own attribute.

    Example:
        >>> from torch import nn
        >>> axis_size(nn.Linear(2, 3), KIND_BY_NAME['Linear'].out)
        3
    """
    return int(getattr(module, axis.sizes[0]))


def prunable_layers(model: nn.Module) -> dict[str, tuple[nn.Module, LayerKind]]:
    """Module path to module and kind, for every layer of the table, each module once under its first path.

    Example:
        >>> from torch import nn
        >>> list(prunable_layers(nn.Sequential(nn.Linear(2, 2), nn.ReLU())))
        ['0']
    """
    kinds = ((path, module, layer_kind(module)) for path, module in model.named_modules())
    return {path: (module, kind) for path, module, kind in kinds if kind is not None}
