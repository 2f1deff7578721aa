"""What a forward pass changes in a model beside its outputs, so that the pass can be made again from the same state."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmsharp.type_names import class_names

AVERAGED = 'BaseAveragedModel'
"""MMEngine's class of momentum encoders, whose parameters a forward pass moves without a gradient."""
VALUES = (bool, int, float, complex, str, type(None), Tensor)
CONTAINERS = (list, dict, set, deque)
MISSING = object()
OWN = frozenset(vars(nn.Module()))
"""What every module has: its parts and hooks, which no forward pass changes."""


class ForwardState:
    """The state of a model when a forward pass began: buffers, momentum encoders, and plain attributes.

    Some losses count, queue or average what they have seen. A second pass that is to compute the same function has to
    begin where the first one did, and what it leaves must not count. Kept are:

    - all buffers but those of BatchNorm, by name, so that it does not matter whether they are written or exchanged;
    - the statistics of BatchNorm, which do not decide what a training pass computes, for :meth:`rewind` alone, but for
      those in averaged models, into which their sources' are copied;
    - parameters that require no gradient inside MMEngine's averaged models;
    - numbers, texts, tensors, and the content of the lists, dicts, sets and deques, one in the other too, that are
      attributes of modules from outside of ``torch.nn``, such as a queue of features or the history of a dynamic
      assigner. Tensors that are part of a graph, and those in containers, are kept by reference;
    - which buffers there are: one that the first pass makes is made anew by the second.

    Not kept is what a forward pass changes elsewhere: tensors in containers and NumPy arrays that it writes into, other
    objects, files, parameters that require no gradient.

    Args:
        model: The model, without the wrapper of distributed training.

    Example:
        >>> class Counts(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.calls = 0
        ...         self.register_buffer('seen', torch.zeros(()))
        ...
        ...     def forward(self):
        ...         self.calls += 1
        ...         self.seen = self.seen + 1
        ...         return self.calls, self.seen.item()
        >>> model = Counts()
        >>> state = ForwardState(model)
        >>> first = model()
        >>> with state.replayed():
        ...     second = model()
        >>> first == second, model.calls, model.seen.item()
        (True, 1, 1.0)
    """

    def __init__(self, model: nn.Module) -> None:
        self._tensors: list[tuple[dict[str, Any], str, Tensor, Tensor]] = []
        self._statistics: list[Tensor] = []
        self._averaged: list[tuple[nn.Parameter, Tensor]] = []
        self._attributes: list[tuple[nn.Module, dict[str, Any]]] = []
        self._buffers = [(module, set(module._buffers)) for module in model.modules() if not _is_scripted(module)]
        self._scripted: list[tuple[Tensor, Tensor]] = []
        """Buffers of compiled modules, which can be written and not exchanged."""
        copies: dict[int, Tensor] = {}
        inside: set[int] = set()
        for module in model.modules():  # parents first
            if AVERAGED in class_names(module):
                inside.update(map(id, module.modules()))
            if _is_scripted(module):
                self._scripted += [(buffer, buffer.detach().clone()) for buffer in module.buffers(recurse=False)]
                continue
            if keeps_torch_statistics(module) and id(module) not in inside:
                self._statistics += [buffer for buffer in module._buffers.values() if buffer is not None]
            else:
                self._keep(
                    module._buffers, [name for name, value in module._buffers.items() if value is not None], copies
                )
            if not type(module).__module__.startswith('torch.nn.'):
                self._attributes.append((module, _plain_attributes(module)))
                self._keep(vars(module), [name for name, value in vars(module).items() if _is_memory(value)], copies)
            if AVERAGED in class_names(module):
                frozen = [parameter for parameter in module.parameters() if not parameter.requires_grad]
                self._averaged += [(parameter, parameter.detach().clone()) for parameter in frozen]
        self._copies = [torch.empty_like(buffer) for buffer in self._statistics]
        _copy(self._copies, self._statistics)

    def _keep(self, holder: dict[str, Any], names: list[str], copies: dict[int, Tensor]) -> None:
        for name in names:
            tensor = holder[name]
            if id(tensor) not in copies:
                copies[id(tensor)] = tensor.detach().clone()
            self._tensors.append((holder, name, tensor, copies[id(tensor)]))

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Inside, the model is as it was at first; afterwards, also after an exception, as just before entering."""
        tensors = [(holder, name, holder.get(name, MISSING)) for holder, name, _, _ in self._tensors]
        averaged = [(parameter, parameter.data) for parameter, _ in self._averaged]
        attributes = [(module, _plain_attributes(module)) for module, _ in self._attributes]
        # Copies of the copies, which a later rewind still needs; one for each, as buffers may be shared.
        copies = [kept for *_, kept in self._tensors] + [kept for _, kept in self._averaged]
        scratch = {id(kept): kept.clone() for kept in copies}
        scripted = [buffer.detach().clone() for buffer, _ in self._scripted]
        made = [
            (module, name, buffer)
            for module, known in self._buffers
            for name, buffer in module._buffers.items()
            if name not in known
        ]
        try:
            for module, name, _ in made:
                del module._buffers[name]
            _copy([buffer for buffer, _ in self._scripted], [kept for _, kept in self._scripted])
            for module, values in self._attributes:
                _set_attributes(module, values)
            for holder, name, _, copy in self._tensors:
                holder[name] = scratch[id(copy)]
            for parameter, copy in self._averaged:
                parameter.data = scratch[id(copy)]
            yield
        finally:
            for holder, name, tensor in tensors:
                holder[name] = tensor
                if tensor is MISSING:
                    del holder[name]
            for parameter, data in averaged:
                parameter.data = data
            for module, values in attributes:
                _set_attributes(module, values)
            for module, name, buffer in made:
                module._buffers[name] = buffer
            _copy([buffer for buffer, _ in self._scripted], scripted)

    def rewind(self) -> None:
        """Put the model back to this state for good, statistics of BatchNorm included; its graphs are useless then."""
        _copy(self._statistics, self._copies)
        _copy([buffer for buffer, _ in self._scripted], [kept for _, kept in self._scripted])
        _copy([tensor for *_, tensor, _ in self._tensors], [copy for *_, copy in self._tensors])
        for holder, name, tensor, _ in self._tensors:
            holder[name] = tensor
        _copy([parameter.data for parameter, _ in self._averaged], [copy for _, copy in self._averaged])
        for module, values in self._attributes:
            _set_attributes(module, values)


def keeps_torch_statistics(module: nn.Module) -> bool:
    """Whether a module is BatchNorm whose forward is torch's own, which obeys ``track_running_stats``.

    Example:
        >>> keeps_torch_statistics(nn.BatchNorm2d(1)), keeps_torch_statistics(nn.Conv2d(1, 1, 1))
        (True, False)
    """
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return False
    return type(module).forward in (nn.modules.batchnorm._BatchNorm.forward, nn.SyncBatchNorm.forward)


def _is_memory(value: Any) -> bool:
    """Whether an attribute is a tensor that a forward pass may write into: no result of one, and not spread out."""
    return (
        type(value) is Tensor
        and not value.requires_grad
        and not value.is_inference()
        and value.layout == torch.strided
        and all(stride > 0 or size < 2 for stride, size in zip(value.stride(), value.shape))
    )


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    found = {}
    for name, value in vars(module).items():
        kind = type(value)
        if kind in VALUES:
            found[name] = value
        elif kind in CONTAINERS and name not in OWN:
            found[name] = _Contents(value)
    return found


class _Contents:
    """A container and what it holds, with the containers among it."""

    def __init__(self, container: Any, around: tuple[int, ...] = ()) -> None:
        self.container, self._items = container, container.copy()
        around = (*around, id(container))
        items = self._items.values() if isinstance(container, dict) else self._items
        self._inner = [_Contents(item, around) for item in items if type(item) in CONTAINERS and id(item) not in around]

    def restore(self) -> Any:
        """The container, which is the same object, with what it held."""
        if not _same(self.container, self._items):
            self.container.clear()
            kind = type(self.container)
            (self.container.update if kind in (dict, set) else self.container.extend)(self._items)
        for inner in self._inner:
            inner.restore()
        return self.container


def _is_scripted(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def _set_attributes(module: nn.Module, values: dict[str, Any]) -> None:
    """Write what differs; a container stays the object that it is, in case somebody else holds it too."""
    attributes = vars(module)
    for name, value in values.items():
        before = value.restore() if isinstance(value, _Contents) else value
        if attributes.get(name, module) is not before:
            attributes[name] = before


def _same(first: Any, second: Any) -> bool:
    """Whether two containers of one kind hold the very same objects; comparing tensors by value would cost a wait."""
    if len(first) != len(second):
        return False
    if isinstance(first, set):
        return {id(item) for item in first} == {id(item) for item in second}
    if isinstance(first, dict):
        return all(name in second and second[name] is item for name, item in first.items())
    return all(one is other for one, other in zip(first, second))


@torch.no_grad()
def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    if targets:
        torch._foreach_copy_(targets, sources)
