"""The table of prunable layers: which dimension of which tensor is an axis of channels, and what says its size.

Everything that reads or changes the width of a layer (groups, masks, recipes, slimming) goes through this table; a new
kind of layer is one row here or, for blocks with attributes of their own, in ``blocks.py``. Subclasses count, so the
toolboxes' own wrappers of PyTorch layers need no row. Parameters and buffers that no row describes (a layer scale, a
table of position biases) have one axis per dimension, named ``<parameter>.<dimension>``.
"""

from __future__ import annotations

import re
from dataclasses import replace

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from mmsharp.pruning.layers.blocks import BLOCK_KINDS
from mmsharp.pruning.layers.kinds import Axis, LayerKind
from mmsharp.pruning.layers.norms import NORM_KINDS
from mmsharp.pruning.layers.regions import is_roi_extractor
from mmsharp.pruning.layers.standardised import STANDARDISED_KINDS
from mmsharp.type_names import class_names

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PARAMETER_AXIS = re.compile(r'([^\W\d]\w*)\.(\d)')
"""Name of an axis that is a dimension of a parameter without a row."""


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, _CONVOLUTIONS) and 1 < module.groups == module.in_channels == module.out_channels


FEW = 8
"""A convolution in fewer groups than this keeps them all, and loses channels inside of each (ResNeSt has two); one in
more groups loses whole groups (ResNeXt has 32)."""

_PARAMETRIZATION = re.compile(r'(^|\.)parametrizations\..*$')

LAYER_KINDS: tuple[LayerKind, ...] = (
    LayerKind(
        'DepthwiseConv',
        _is_depthwise,
        {'out': Axis({'weight': 0, 'bias': 0}, ('out_channels', 'in_channels', 'groups'))},
    ),
    LayerKind(
        'PartedConv',
        lambda m: isinstance(m, _CONVOLUTIONS) and 1 < m.groups < FEW and m.in_channels > m.groups,
        {
            'out': Axis({'weight': 0, 'bias': 0}, ('out_channels',), parts='groups'),
            'in': Axis({}, ('in_channels',), tiles_of='inner'),
            'inner': Axis({'weight': 1}, ()),
        },
    ),
    LayerKind(
        'GroupedConv',
        lambda m: isinstance(m, _CONVOLUTIONS) and m.groups > 1,
        {
            'out': Axis({'weight': 0, 'bias': 0}, ('out_channels',), runs_of='groups'),
            'in': Axis({}, ('in_channels',), runs_of='groups'),
            'groups': Axis({}, ('groups',)),
        },
    ),
    LayerKind(
        'Conv',
        lambda m: isinstance(m, _CONVOLUTIONS) and m.groups == 1,
        {'out': Axis({'weight': 0, 'bias': 0}, ('out_channels',)), 'in': Axis({'weight': 1}, ('in_channels',))},
    ),
    LayerKind(
        'ConvTranspose',
        lambda m: isinstance(m, _TRANSPOSED) and m.groups == 1,
        {'out': Axis({'weight': 1, 'bias': 0}, ('out_channels',)), 'in': Axis({'weight': 0}, ('in_channels',))},
    ),
    LayerKind(
        'Linear',
        lambda m: isinstance(m, nn.Linear),
        {'out': Axis({'weight': 0, 'bias': 0}, ('out_features',)), 'in': Axis({'weight': 1}, ('in_features',))},
    ),
    LayerKind(
        'DeformConv',
        lambda m: 'DeformConv2d' in class_names(m) and getattr(m, 'groups', None) == 1,
        {'out': Axis({'weight': 0}, ('out_channels',)), 'in': Axis({'weight': 1}, ('in_channels',))},
    ),
    LayerKind(
        'ModulatedDeformConv',
        lambda m: 'ModulatedDeformConv2d' in class_names(m) and getattr(m, 'groups', None) == 1,
        {'out': Axis({'weight': 0, 'bias': 0}, ('out_channels',)), 'in': Axis({'weight': 1}, ('in_channels',))},
    ),
    LayerKind(
        'BatchNorm',
        lambda m: isinstance(m, nn.modules.batchnorm._BatchNorm),
        {'out': Axis({'weight': 0, 'bias': 0, 'running_mean': 0, 'running_var': 0}, ('num_features',))},
    ),
    LayerKind('RoIExtractor', is_roi_extractor, {'out': Axis({}, ('out_channels',))}),
    LayerKind(
        'PReLU',
        lambda m: isinstance(m, nn.PReLU) and m.num_parameters > 1,
        {'out': Axis({'weight': 0}, ('num_parameters',))},
    ),
)

KEPT_STATISTICS = frozenset(('running_var',))
"""Not zeroed by masks: any variance will do for a dead channel, and one of zero invites a division by it."""

PARAMETERS = LayerKind('Parameters', lambda module: True)
"""The row of modules that no other row describes: they have the axes of their own parameters."""

KIND_BY_NAME: dict[str, LayerKind] = {
    kind.name: kind for kind in (*STANDARDISED_KINDS, *LAYER_KINDS, *NORM_KINDS, *BLOCK_KINDS, PARAMETERS)
}

WITHOUT_SLIM_FORM: dict[type[nn.Module], str] = {
    nn.MultiheadAttention: 'nn.MultiheadAttention with learned or zero keys has no slim form',
    nn.modules.conv._ConvTransposeNd: 'a transposed convolution in groups is not in the table of prunable layers',
    nn.RNNBase: 'recurrent layers are not in the table of prunable layers',
    ParametrizationList: 'its weight is computed from others',
}
"""Modules whose own parameters stay as they are, and why."""


def layer_kind(module: nn.Module) -> LayerKind | None:
    """The row of a module with the axes of its other parameters; ``None`` where it has no axes.

    A module whose row does not hold because its tensors are computed instead of stored has no axes.

    Example:
        >>> from torch import nn
        >>> layer_kind(nn.Conv2d(4, 8, 3)).name, layer_kind(nn.Conv2d(8, 8, 3, groups=8)).name
        ('Conv', 'DepthwiseConv')
        >>> layer_kind(nn.Conv2d(32, 32, 3, groups=8)).name, layer_kind(nn.Conv2d(8, 8, 3, groups=2)).name
        ('GroupedConv', 'PartedConv')
        >>> layer_kind(nn.Embedding(3, 4)).axes['weight.1'].tensors
        {'weight': 1}
        >>> layer_kind(nn.ReLU()) is None
        True
    """
    for kind in (*STANDARDISED_KINDS, *LAYER_KINDS, *NORM_KINDS, *BLOCK_KINDS):
        if kind.matches(module):
            stored = module._parameters.keys() | module._buffers.keys()
            if 'out' in kind.axes and not kind.out.tensors.keys() <= stored:
                return None
            own = _parameter_axes(module, kind)
            return replace(kind, axes={**kind.axes, **own}) if own else kind
    if isinstance(module, tuple(WITHOUT_SLIM_FORM)):
        return None
    own = _parameter_axes(module, PARAMETERS)
    return replace(PARAMETERS, axes=own) if own else None


def _parameter_axes(module: nn.Module, kind: LayerKind) -> dict[str, Axis]:
    """One axis per dimension of each parameter, or buffer of real numbers, that the row does not describe."""
    if not module._parameters and not module._buffers:
        return {}
    described = {name for axis in kind.axes.values() for name in axis.tensors}
    return {
        f'{name}.{dim}': Axis({name: dim}, ())
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None and tensor.is_floating_point() and name not in described
        for dim, size in enumerate(tensor.shape)
        if size > 1
    }


def layer_tensors(module: nn.Module, axis: Axis) -> dict[str, tuple[Tensor, int]]:
    """The tensors of a module that have the axis, each with its dimension; absent ones (no bias) are left out.

    Example:
        >>> from torch import nn
        >>> sorted(layer_tensors(nn.Linear(2, 3, bias=False), KIND_BY_NAME['Linear'].out))
        ['weight']
    """
    found: dict[str, tuple[Tensor, int]] = {}
    for name, dim in axis.tensors.items():
        for place in (module._parameters, module._buffers, module.__dict__):
            if isinstance(tensor := place.get(name), Tensor):
                found[name] = (tensor, dim)
                break
    return found


def axis_size(module: nn.Module, axis: Axis) -> int:
    """Number of channels along an axis, by the module's own attribute, or by its tensor.

    Example:
        >>> from torch import nn
        >>> axis_size(nn.Linear(2, 3), KIND_BY_NAME['Linear'].out)
        3
        >>> axis_size(nn.Embedding(3, 4), layer_kind(nn.Embedding(3, 4)).axes['weight.1'])
        4
    """
    if axis.sizes:
        name, _, index = axis.sizes[0].partition('.')
        size = getattr(module, name)
        if index or isinstance(size, tuple):
            size = size[int(index or 0)]
        return int(size)
    tensor, dim = next(iter(layer_tensors(module, axis).values()))
    return tensor.shape[dim]


def set_axis_size(module: nn.Module, axis: Axis, size: int) -> None:
    """Write a new number of channels to the attributes of a module that hold it.

    Example:
        >>> module = nn.LayerNorm(4)
        >>> set_axis_size(module, layer_kind(module).out, 3)
        >>> module.normalized_shape
        (3,)
    """
    for attribute in axis.sizes:
        name, _, index = attribute.partition('.')
        old = getattr(module, name)
        if index or isinstance(old, tuple):
            items = list(old)
            items[int(index or 0)] = size
            setattr(module, name, type(old)(items))
        else:
            setattr(module, name, size)


def prunable_layers(model: nn.Module) -> dict[str, tuple[nn.Module, LayerKind]]:
    """Module path to module and kind, for every layer of the table, each module once under its first path.

    Example:
        >>> from torch import nn
        >>> list(prunable_layers(nn.Sequential(nn.Linear(2, 2), nn.ReLU())))
        ['0']
    """
    kinds = ((path, module, layer_kind(module)) for path, module in model.named_modules())
    return {path: (module, kind) for path, module, kind in kinds if kind is not None}


def foreign_layers(model: nn.Module) -> dict[str, str]:
    """Module path to reason, for every layer with parameters of more than one number that the table does not describe.

    Example:
        >>> from torch import nn
        >>> foreign_layers(nn.Sequential(nn.Linear(2, 2), nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))))
        {'1': 'its weight is computed from others'}
    """
    found: dict[str, str] = {}
    for path, module in model.named_modules():
        if layer_kind(module) is None and any(parameter.numel() > 1 for parameter in module.parameters(recurse=False)):
            if isinstance(module, ParametrizationList):
                found[_PARAMETRIZATION.sub('', path)] = why_foreign(module)
            else:
                found.setdefault(path, why_foreign(module))
    return found


def why_foreign(module: nn.Module) -> str:
    """Why the parameters of a module that the table does not describe stay as they are."""
    for kind, reason in WITHOUT_SLIM_FORM.items():
        if isinstance(module, kind):
            return reason
    return f'a {type(module).__name__} whose weight is computed is not in the table of prunable layers'
