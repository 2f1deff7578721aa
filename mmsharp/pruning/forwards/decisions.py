"""Let a second network take the decisions of a first: which proposals, which queries, which pyramid level.

Two networks that compute the same up to rounding may still order two nearly equal scores differently, and then give
the same numbers in another order, or other boxes. A comparison of what they compute has to hold such choices fixed: the
integers and booleans that come out of floating-point numbers, and the numbers that Python takes from tensors.

A decision taken over hides whatever led to it, so what the second network would have decided on is compared with what
the first one did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from mmsharp.pruning.forwards.custom_functions import custom_functions

_WITH_VALUES = frozenset(('topk', 'sort', 'max', 'min', 'kthvalue', 'cummax', 'cummin', 'median', 'mode'))
"""Operations that give chosen values beside their places."""


TAKES_A_NUMBER = '_local_scalar_dense'

UNINFORMED = ('pool', 'norm', 'attention', 'dropout', 'rnn')
"""Operations whose integers say how they work, or which places they took values from that are handed on themselves."""

NEGLIGIBLE = {torch.float64: 1e-11}
"""Differences of what is decided on that are rounding whatever its scale; 1e-6 where numbers are shorter."""


class Decisions:
    """The decisions of one forward, in order, with what they were taken from.

    Attributes:
        differences: After :meth:`taken`, the largest difference between what decisions were taken from in the first
            network and in the second, relative to its scale, for each floating-point type that there was.

    Example:
        >>> decisions = Decisions()
        >>> with decisions.recorded():
        ...     best = torch.tensor([1.0, 2.0]).argmax()
        >>> with decisions.taken():
        ...     torch.tensor([2.0, 1.0]).argmax()
        tensor(1)
    """

    def __init__(self) -> None:
        self._made: list[tuple[str, list[Tensor], list[Tensor], Any]] = []
        self.differences: dict[torch.dtype, float] = {}

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Inside, decisions are made as ever, and remembered."""
        self._made.clear()

        def remember(name: str, arguments: dict[str, Any], given: list[Tensor], result: Any) -> Any:
            seen = [tensor.detach().clone() for tensor in given]
            number = result if name == TAKES_A_NUMBER else None
            self._made.append((name, [leaf.clone() for leaf in _choices(result)], seen, number))
            return result

        with _watched(remember):
            yield

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Inside, decisions are those that were remembered, as long as the same operations come in the same order.

        A decision of another shape, or on numbers of another shape, such as a comparison along channels that the second
        network lacks, stays its own.
        """
        remaining = iter(self._made)
        together = True
        self.differences.clear()

        def replace(name: str, arguments: dict[str, Any], given: list[Tensor], result: Any) -> Any:
            nonlocal together
            known, choices, seen, number = next(remaining, ('', [], [], None)) if together else ('', [], [], None)
            own = _choices(result)
            together = together and known == name
            if not together or _shapes(own) != _shapes(choices) or _shapes(given) != _shapes(seen):
                return result
            for first, second in zip(seen, given):
                self.differences[second.dtype] = max(self.differences.get(second.dtype, 0.0), _relative(first, second))
            if name == TAKES_A_NUMBER:
                return number
            if name in _WITH_VALUES and isinstance(result, (tuple, list)) and len(result) == 2:
                return _values_at(arguments, choices[0]), choices[0].clone()
            queue = iter(choices)
            return tree_map(lambda leaf: next(queue).clone() if _is_choice(leaf) else leaf, result)

        with _watched(replace):
            yield


def _relative(first: Tensor, second: Tensor) -> float:
    """The largest difference relative to the largest magnitude; infinite if numbers are finite in one place only."""
    if first.device != second.device or not first.numel():
        return 0.0
    finite = first.isfinite()
    if (finite != second.isfinite()).any():
        return float('inf')
    first, second = first.where(finite, 0), second.where(finite, 0)
    largest = float((first - second).abs().max())
    return largest / float(first.abs().max()) if largest > NEGLIGIBLE.get(second.dtype, 1e-6) else 0.0


def _shapes(tensors: list[Tensor]) -> list[torch.Size]:
    return [tensor.shape for tensor in tensors]


def _floats(given: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _is_choice(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.is_floating_point() and not value.is_complex()


def _choices(result: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(result) if _is_choice(leaf)]


def _values_at(arguments: dict[str, Any], places: Tensor) -> Tensor:
    """The values of an operation's input at these places, shaped as the operation gives them."""
    x, dim = arguments['self'], arguments.get('dim', -1)
    if places.dim() < x.dim():  # reduced without keepdim
        return x.gather(dim, places.unsqueeze(dim)).squeeze(dim)
    return x.gather(dim, places) if x.dim() else x


_Change = Callable[[str, 'dict[str, Any]', 'list[Tensor]', Any], Any]
"""``change(name, arguments, floating-point tensors given, result)`` is what a deciding operation gives."""


class _Watch(TorchDispatchMode):
    def __init__(self, change: _Change) -> None:
        super().__init__()
        self._change = change

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func._schema.name.removeprefix('aten::')
        if not _decides(name, (args, kwargs), result):
            return result
        arguments = {argument.name: argument.default_value for argument in func._schema.arguments}
        arguments.update(zip(arguments, args), **kwargs)
        return self._change(name, arguments, _floats((args, kwargs)), result)


def _decides(name: str, given: Any, result: Any) -> bool:
    """Whether an operation turns floating-point numbers into integers or booleans that something may depend on."""
    if name == TAKES_A_NUMBER:
        return bool(_floats(given))
    if any(word in name for word in UNINFORMED) or name.endswith('_like') or name.startswith('new_'):
        return False
    return bool(_choices(result) and _floats(given))


@contextmanager
def _watched(change: _Change) -> Iterator[None]:
    def around(kind: type, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = call(*args, **kwargs)
        if not _decides(kind.__name__, (args, kwargs), result):
            return result
        return change(kind.__name__, {}, _floats((args[1:], kwargs)), result)

    with custom_functions(around), _Watch(change), torch.no_grad():
        yield
