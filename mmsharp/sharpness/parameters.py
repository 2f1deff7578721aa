"""Which parameters take part in an ascent step, and along which axis each of them counts its output channels."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.type_names import class_names

FILTERS = ('all', 'weights', 'norm_only')

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class AscentParameter:
    """One tensor that an ascent may move.

    Args:
        name: Its qualified name in the model.
        tensor: The parameter itself.
        channel_axis: The axis of its output channels: 1 for transposed convolutions, 0 for everything else.
        scaled: Whether ASAM's normalisation operator applies: true for parameters called ``weight``, false for
            biases and the like, as in Kwon et al. (2021), section 4.
    """

    name: str
    tensor: nn.Parameter
    channel_axis: int
    scaled: bool


def select_parameters(model: nn.Module, which: str | Sequence[str] = 'all') -> list[AscentParameter]:
    """List the parameters of ``model`` that take part, in the model's own order, shared ones once.

    Args:
        model: Any module. Parameters that require no gradient are left out.
        which: ``'all'``; ``'weights'``, tensors with more than one axis (filters and matrices); ``'norm_only'``, the
            affine parameters of normalisation layers (SAM-ON, Mueller et al. 2023; see :func:`is_normalisation`); or a
            list of name patterns in the style of :mod:`fnmatch`, of which every one must match something.

    Raises:
        MmsharpError: ``which`` is not one of these, or it selects nothing.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        >>> [parameter.name for parameter in select_parameters(model, 'weights')]
        ['0.weight']
        >>> [parameter.name for parameter in select_parameters(model, ['1.*'])]
        ['1.weight', '1.bias']
    """
    patterns = _validated_patterns(which)
    used: set[str] = set()
    selected: list[AscentParameter] = []
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for local_name, tensor in module.named_parameters(recurse=False):
            if not tensor.requires_grad or not tensor.numel():
                continue
            name = f'{prefix}.{local_name}' if prefix else local_name
            if patterns is not None:
                matching = [pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)]
                used.update(matching)
                takes_part = bool(matching)
            elif which == 'weights':
                takes_part = tensor.dim() > 1
            elif which == 'norm_only':
                takes_part = is_normalisation(module)
            else:
                takes_part = True
            if takes_part and id(tensor) not in seen:
                seen.add(id(tensor))
                axis = 1 if isinstance(module, _TRANSPOSED) and tensor.dim() > 1 else 0
                selected.append(AscentParameter(name, tensor, axis, scaled='weight' in local_name))
    if patterns is not None and (unused := [pattern for pattern in patterns if pattern not in used]):
        raise MmsharpError(
            f'parameters={which!r}: {unused[0]!r} matches no trainable parameter of {type(model).__name__}; names look '
            f'like {", ".join(repr(name) for name, _ in list(model.named_parameters())[:3])}'
        )
    if not selected:
        raise MmsharpError(
            f'parameters={which!r} selects no trainable parameter of {type(model).__name__}; use one of {FILTERS} that '
            'the model has, or unfreeze its parameters'
        )
    return selected


def is_normalisation(module: nn.Module) -> bool:
    """Whether a layer normalises: by its class or one that it derives from, whose name says so.

    The toolboxes have many of their own (``LayerNorm2d``, ``L2Norm``, ``RMSNorm``, ``GRN``); names are what they share.

    Example:
        >>> is_normalisation(nn.GroupNorm(1, 2)), is_normalisation(nn.SyncBatchNorm(2)), is_normalisation(nn.Identity())
        (True, True, False)
    """
    if any(module.children()):
        return False  # a block that contains one, such as a pre-norm attention
    return any('Norm' in name or name == 'GRN' for name in class_names(module))


def validate_filter(which: str | Sequence[str]) -> None:
    """Refuse anything that :func:`select_parameters` would not understand.

    Raises:
        MmsharpError: ``which`` is neither a known filter nor a list of patterns.

    Example:
        >>> validate_filter('all')
    """
    _validated_patterns(which)


def _validated_patterns(which: str | Sequence[str]) -> list[str] | None:
    if isinstance(which, str):
        if which not in FILTERS:
            raise MmsharpError(f'parameters={which!r} is not one of {FILTERS}; name patterns are given as a list')
        return None
    if not isinstance(which, Sequence) or not which or not all(isinstance(pattern, str) for pattern in which):
        raise MmsharpError(f'parameters={which!r} is neither one of {FILTERS} nor a list of name patterns')
    return list(which)
