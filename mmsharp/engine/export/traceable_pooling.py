"""Adaptive pooling that an exporter can follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from torch import Tensor
from torch.nn import functional

FIXED: dict[str, Callable[..., Tensor]] = {
    'adaptive_max_pool2d': functional.max_pool2d,
    'adaptive_avg_pool2d': functional.avg_pool2d,
}


@contextmanager
def traceable_pooling() -> Iterator[None]:
    """Pool to the height and width that the traced run has, where a model asks for those of another feature map.

    ``functional.adaptive_max_pool2d(x, y.shape[2:])``, as in Libra R-CNN's neck: while they are followed, such sizes
    are results of operators, which the exporter refuses. The images' size is fixed in the file anyway, and pooling to
    a divisor of the size is pooling with a fixed window.
    """
    with ExitStack() as stack:
        for name, fixed in FIXED.items():
            stack.enter_context(patch.object(functional, name, _of_numbers(getattr(functional, name), fixed)))
        yield


def _of_numbers(adaptive: Callable[..., Any], fixed: Callable[..., Tensor]) -> Callable[..., Any]:
    def pooled(input: Tensor, output_size: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(output_size, (tuple, list)) or None in output_size:
            return adaptive(input, output_size, *args, **kwargs)
        wanted = [int(size) for size in output_size]
        given = [int(size) for size in input.shape[-2:]]
        if args or kwargs or any(size % part for size, part in zip(given, wanted)):
            return adaptive(input, wanted, *args, **kwargs)
        return fixed(input, [size // part for size, part in zip(given, wanted)])

    return pooled
