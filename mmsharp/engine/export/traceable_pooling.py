"""Adaptive pooling to a size that an exporter takes for a number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from torch.nn import functional

NAMES = ('adaptive_max_pool2d', 'adaptive_avg_pool2d')


@contextmanager
def traceable_pooling() -> Iterator[None]:
    """Pool to the height and width that the traced run has, where a model asks for those of another feature map.

    ``functional.adaptive_max_pool2d(x, y.shape[2:])``, as in Libra R-CNN's neck: while they are followed, such sizes
    are results of operators, which the exporter refuses. The images' size is fixed in the file anyway.
    """
    with ExitStack() as stack:
        for name in NAMES:
            stack.enter_context(patch.object(functional, name, _of_numbers(getattr(functional, name))))
        yield


def _of_numbers(pool: Callable[..., Any]) -> Callable[..., Any]:
    def pooled(input: Any, output_size: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(output_size, Sequence):
            output_size = tuple(None if size is None else int(size) for size in output_size)
        return pool(input, output_size, *args, **kwargs)

    return pooled
