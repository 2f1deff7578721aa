"""Let a second network take the decisions of a first: which proposals, which queries, which pyramid level.

Two networks that compute the same up to rounding may still order two nearly equal scores differently, and then give
the same numbers in another order, or other boxes. A comparison of what they compute has to hold such choices fixed: the
integers and booleans that come out of floating-point numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from mmsharp.pruning.custom_functions import custom_functions

_WITH_VALUES = frozenset(('topk', 'sort', 'max', 'min', 'kthvalue', 'cummax', 'cummin', 'median', 'mode'))
"""Operations that give chosen values beside their places."""


class Decisions:
    """The decisions of one forward, in order.

    Example:
        >>> decisions = Decisions()
        >>> with decisions.recorded():
        ...     best = torch.tensor([1.0, 2.0]).argmax()
        >>> with decisions.taken():
        ...     torch.tensor([2.0, 1.0]).argmax()
        tensor(1)
    """

    def __init__(self) -> None:
        self._made: list[tuple[str, list[Tensor]]] = []

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Inside, decisions are made as ever, and remembered."""
        self._made.clear()

        def remember(name: str, arguments: dict[str, Any], result: Any) -> Any:
            self._made.append((name, [leaf.clone() for leaf in _choices(result)]))
            return result

        with _watched(remember):
            yield

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Inside, decisions are those that were remembered, as long as the same operations come in the same order.

        A decision of another shape, such as a comparison along channels that the second network lacks, stays its own.
        """
        remaining = iter(self._made)
        together = True

        def replace(name: str, arguments: dict[str, Any], result: Any) -> Any:
            nonlocal together
            known, choices = next(remaining, ('', [])) if together else ('', [])
            own = _choices(result)
            together = together and known == name
            if not together or [leaf.shape for leaf in own] != [leaf.shape for leaf in choices]:
                return result
            if name in _WITH_VALUES and isinstance(result, (tuple, list)) and len(result) == 2:
                return _values_at(arguments, choices[0]), choices[0].clone()
            queue = iter(choices)
            return tree_map(lambda leaf: next(queue).clone() if _is_choice(leaf) else leaf, result)

        with _watched(replace):
            yield


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


class _Watch(TorchDispatchMode):
    def __init__(self, change: Callable[[str, dict[str, Any], Any], Any]) -> None:
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
        return self._change(name, arguments, result)


def _decides(name: str, given: Any, result: Any) -> bool:
    """Whether an operation turns floating-point numbers into integers or booleans that something may depend on."""
    if 'pool' in name or name.endswith('_like') or name.startswith('new_') or not _choices(result):
        return False
    return any(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in tree_leaves(given))


@contextmanager
def _watched(change: Callable[[str, dict[str, Any], Any], Any]) -> Iterator[None]:
    def around(kind: type, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = call(*args, **kwargs)
        return change(kind.__name__, {}, result) if _decides(kind.__name__, (args, kwargs), result) else result

    with custom_functions(around), _Watch(change), torch.no_grad():
        yield
