"""Step between a model and the custom autograd functions it calls, whose kernels no dispatch mode sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

Around = Callable[[type, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""``around(kind, call, args, kwargs)`` is run instead of ``kind.forward(*args, **kwargs)``, which is ``call``."""


@contextmanager
def custom_functions(around: Around) -> Iterator[None]:
    """Inside, every forward of an autograd function that is not PyTorch's own goes through ``around``.

    ``args[0]`` is the function's context, except for functions with a separate ``setup_context``.

    Example:
        >>> class Double(torch.autograd.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         return 2 * x
        >>> with custom_functions(lambda kind, call, args, kwargs: call(*args, **kwargs) + 1):
        ...     Double.apply(torch.ones(1))
        tensor([3.])
        >>> Double.apply(torch.ones(1))
        tensor([2.])
    """
    patched: list[tuple[Any, Any]] = []
    try:
        for kind in set(_subclasses(torch.autograd.Function)):
            original = kind.__dict__.get('forward')
            if isinstance(original, staticmethod) and not kind.__module__.startswith('torch.'):
                patched.append((kind, original))
                kind.forward = staticmethod(_through(around, kind, original.__func__))
        yield
    finally:
        for kind, original in patched:
            kind.forward = original


def _through(around: Around, kind: type, call: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        return around(kind, call, args, kwargs)

    return forward


def _subclasses(kind: Any) -> Iterator[Any]:
    for child in kind.__subclasses__():
        yield child
        yield from _subclasses(child)
