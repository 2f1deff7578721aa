"""Copy a model as it is, or say which of its parts cannot be copied."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mmsharp.errors import MmsharpError, one_line

Model = TypeVar('Model', bound=nn.Module)

STORED = ('_parameters', '_buffers')
CHECKPOINTING = 'activation_checkpointing.py'
"""Where MMEngine makes its activation checkpoints."""


def model_copy(model: Model, memo: dict[int, Any] | None = None) -> Model:
    """A deep copy of a model; tensors that it keeps beside parameters and leave a graph are copied without the graph.

    ``copy.deepcopy`` refuses these: a feature map that a training forward has left behind, or a weight that a hook
    computes anew for every forward pass (:func:`torch.nn.utils.weight_norm`). Activation checkpoints are left out.

    Args:
        model: Left as it is.
        memo: What takes the place of objects of the model, by ``id``, as for ``copy.deepcopy``.

    Raises:
        MmsharpError: The model has parameters without numbers (lazy modules, the meta device), is scripted, or has an
            attribute that cannot be copied.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> model.last = model(torch.ones(1, 1))
        >>> model_copy(model).last.grad_fn is None, model.last.grad_fn is None
        (True, False)
    """
    _check_numbers(model)
    known = _detached(model)
    known.update(memo or {})
    try:
        return _with_own_forwards(model, copy.deepcopy(model, known))
    except Exception as error:  # whatever a model keeps, and its own code for copying
        raise MmsharpError(
            f'{type(model).__name__} cannot be copied, which finding channel groups and slimming need: '
            f'{_culprit(model) or one_line(error)}; keep that outside of the model, or give its class a __deepcopy__'
        ) from error


def _with_own_forwards(model: nn.Module, copied: Model) -> Model:
    """The copy, with forwards of its own where activation checkpoints around those of the original would call these.

    MMEngine's ``activation_checkpointing`` sets a function as the ``forward`` of a module, which copying keeps as it
    is. What it adds is left out: a copy computes the same without it. Functions that somebody else has set may compute
    something else; they go on calling the original, so that no channel of it is found.
    """
    copies = dict(copied.named_modules())
    for path, module in model.named_modules():
        function: Any = vars(module).get('forward')
        while isinstance(function, FunctionType) and Path(function.__code__.co_filename).name == CHECKPOINTING:
            function = getattr(function, '__wrapped__', None)
            if isinstance(function, MethodType) and function.__self__ is module and path in copies:
                copies[path].forward = MethodType(function.__func__, copies[path])
    return copied


def _check_numbers(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise MmsharpError(
                f'{_named(model, path, module)} is scripted, and its channels can be neither followed nor removed; '
                'give the module that it was made of, and script the slim one'
            )
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if is_lazy(tensor):
                raise MmsharpError(
                    f'{_named(model, path, module)} is lazy, and its {name!r} has no shape yet; run the model once on '
                    'an example first'
                )
            if tensor is not None and tensor.is_meta:
                raise MmsharpError(
                    f'{_named(model, path, module)} has its {name!r} on the meta device, without numbers; call '
                    'to_empty(device=...) and load or initialise the weights first'
                )


def _named(model: nn.Module, path: str, module: nn.Module) -> str:
    kind = type(module).__name__
    return f'module {path!r} ({kind}) of {type(model).__name__}' if path else f'{kind} itself'


def _detached(model: nn.Module) -> dict[int, Any]:
    """Copies without a graph of all tensors that a model keeps which have one, by the ``id`` of the original."""
    return {id(tensor): tensor.detach().clone() for tensor in _tensors(model) if not tensor.is_leaf}


def _tensors(kept: Any) -> Iterator[Tensor]:
    """All tensors in an object's attributes, and in containers and objects there."""
    waiting, seen = [kept], set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, (list, tuple, set, frozenset, deque)):
            waiting += value
        elif not isinstance(value, (type, ModuleType, FunctionType)):
            waiting += getattr(value, '__dict__', {}).values()


def _culprit(model: nn.Module) -> str | None:
    """The innermost attribute, or else module, that cannot be copied, and why."""
    modules = list(model.named_modules())[::-1]
    known = _detached(model)
    known.update((id(module), module) for _, module in modules)
    for path, module in modules:
        own = {name: value for name, value in vars(module).items() if name not in ('_modules', *STORED)}
        for name, value in (*own.items(), *module._parameters.items(), *module._buffers.items()):
            if (reason := _failure(value, known)) is not None:
                where = _named(model, path, module)
                return f'attribute {name!r} of {where} is a {type(value).__name__} ({reason})'
    known = _detached(model)
    for path, module in modules:
        if (reason := _failure(module, known)) is not None:
            return f'{_named(model, path, module)} refuses ({reason})'
    return None


def _failure(value: Any, known: dict[int, Any]) -> str | None:
    try:
        copy.deepcopy(value, dict(known))
    except Exception as error:  # as above
        return one_line(error)
    return None
