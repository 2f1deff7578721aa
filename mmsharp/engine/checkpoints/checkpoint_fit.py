"""Whether a checkpoint belongs to a model: MMEngine only logs what does not fit, and evaluates noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmsharp.engine.model_access.stored_parameters import stored_parameters
from mmsharp.errors import MmsharpError


def weights_of(checkpoint: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, without the prefix of a distributed wrapper.

    As for MMEngine, a checkpoint without a ``state_dict`` is one itself. What modules store beside tensors (torch's
    ``_extra_state``) is left out.

    Args:
        checkpoint: What the file holds.
        source: Its path, for the message.

    Raises:
        MmsharpError: There are no weights where MMEngine looks for them.

    Example:
        >>> weights_of(dict(model=dict()), 'other.pth')
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: checkpoint 'other.pth' has no `state_dict` of tensors, it holds 'model'; ...
    """
    weights = checkpoint.get('state_dict', checkpoint)
    if not isinstance(weights, Mapping) or not all(_is_weight(key, value) for key, value in weights.items()):
        found = ', '.join(repr(key) for key in list(checkpoint)[:8])
        raise MmsharpError(
            f'checkpoint {source!r} has no `state_dict` of tensors, it holds {found}; give a checkpoint of MMEngine, '
            'or save the weights in it anew as torch.save(dict(state_dict=...), path)'
        )
    return {key.removeprefix('module.'): value for key, value in weights.items() if isinstance(value, Tensor)}


def _is_weight(key: Any, value: Any) -> bool:
    dense = isinstance(value, Tensor) and value.layout == torch.strided
    return isinstance(key, str) and (dense or key.endswith('_extra_state'))


def check_resumable(checkpoint: Mapping[str, Any], source: str) -> None:
    """Refuse a checkpoint that training cannot go on from: MMEngine needs to know how far it had come.

    Args:
        checkpoint: What the file holds.
        source: Its path, for the message.

    Raises:
        MmsharpError: There are no weights, or no epoch and iteration.

    Example:
        >>> check_resumable(dict(state_dict=dict()), 'dense.pth')
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: checkpoint 'dense.pth' does not say how far training had come ...
    """
    weights_of(checkpoint, source)
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping) or not all(isinstance(meta.get(key), int) for key in ('epoch', 'iter')):
        raise MmsharpError(
            f'checkpoint {source!r} does not say how far training had come (meta.epoch, meta.iter), so nothing can go '
            'on from it; give one that training wrote, or start from its weights with --cfg-options load_from=...'
        )


def check_fit(model: nn.Module, state_dict: Mapping[str, Any], source: str) -> None:
    """Refuse a state dict that lacks parameters of the model, brings others, or has them in other shapes.

    Refused too are complex numbers for real ones, which torch would cast with a warning, and parameters or running
    statistics that are not finite: a training that diverged. Counters such as ``num_batches_tracked`` and the buffers
    of a data preprocessor may be missing, as in old files.

    Args:
        model: The model that the config describes.
        state_dict: The weights, or a checkpoint that holds them.
        source: The path of the checkpoint, for the message.

    Raises:
        MmsharpError: Naming the first key, the expected and the found shape, and what to do.

    Example:
        >>> check_fit(nn.Linear(2, 3), nn.Linear(2, 4).state_dict(), 'other.pth')
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: checkpoint 'other.pth' does not fit Linear: 'weight' is [4, 2], expected [3, 2] ...
    """
    found = weights_of(state_dict, source)
    expected = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    wrong = [
        f'{key!r} is {list(found[key].shape)}, expected {list(value.shape)}'
        for key, value in expected.items()
        if key in found and found[key].shape != value.shape
    ]
    wrong += [
        f'{key!r} is {found[key].dtype}, expected {value.dtype}'
        for key, value in expected.items()
        if key in found and found[key].is_complex() != value.is_complex()
    ]
    needed = stored_parameters(model)
    missing = [f'{key!r} is missing, expected {list(expected[key].shape)}' for key in needed if key not in found]
    known = set(expected)
    extra = [f'{key!r} is not in the model' for key in found if key not in known and found[key].numel() > 1]
    faults = wrong + missing + (extra if len(extra) > len(found) // 2 else [])
    if faults:
        raise MmsharpError(
            f'checkpoint {source!r} does not fit {type(model).__name__}: {faults[0]} ({len(faults)} such keys); give '
            'the config that it was trained with, and for a slim checkpoint the config written beside it'
        )
    broken = [key for key in found if key in known and not _is_sound(key, found[key], needed)]
    if broken:
        raise MmsharpError(
            f'checkpoint {source!r}: {broken[0]!r} holds values that are not finite ({len(broken)} such tensors); its '
            'training has diverged, give an earlier one'
        )


def _is_sound(key: str, tensor: Tensor, parameters: Mapping[str, Any]) -> bool:
    """Finite; buffers may hold infinity, as attention masks do, but not NaN."""
    if not tensor.is_floating_point():
        return True
    return bool((tensor.isfinite() if key in parameters else ~tensor.isnan()).all())


def check_some_fit(model: nn.Module, state_dict: Mapping[str, Any], source: str) -> None:
    """Refuse a state dict of which no parameter fits: training would start from noise, with no more than a warning.

    Fine-tuning may exchange a head or bring a backbone alone, so that one fitting parameter is enough.

    Args:
        model: The model that the config describes.
        state_dict: The weights, or a checkpoint that holds them.
        source: The path of the checkpoint, for the message.

    Raises:
        MmsharpError: As :func:`check_fit`.

    Example:
        >>> check_some_fit(nn.Linear(2, 3), nn.Linear(2, 4, bias=False).state_dict(), 'other.pth')
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: checkpoint 'other.pth' does not fit Linear: 'weight' is [4, 2], expected [3, 2] ...
    """
    found = weights_of(state_dict, source)
    if not any(key in found and found[key].shape == value.shape for key, value in stored_parameters(model).items()):
        check_fit(model, state_dict, source)
