"""Corner pooling of operators that ONNX has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pad

POOLS = {'bottom': (2, False), 'left': (3, True), 'right': (3, False), 'top': (2, True)}
"""Mode to the dimension that is pooled along, and whether from its end."""


@contextmanager
def traceable_corners(model: nn.Module) -> Iterator[None]:
    """Let every ``mmcv.ops.CornerPool`` of a model compute the same with shifts and maxima, without ``cummax``."""
    pools = [module for module in model.modules() if type(module).__name__ == 'CornerPool']
    pools = [module for module in pools if 'forward' not in module.__dict__ and module.mode in POOLS]
    for module in pools:
        module.__dict__['forward'] = _of_mode(module.mode)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for module in pools:
            del module.__dict__['forward']


def running_maximum(values: Tensor, dim: int, backwards: bool = False) -> Tensor:
    """``y_i = max(x_0, ..., x_i)`` along one of the last two dimensions, or ``max(x_i, ..., x_n)`` backwards.

    In ``log2(n)`` steps, each of which doubles how far back an element looks; the numbers of ``torch.cummax``.

    Args:
        values: Shape ``(N, C, H, W)``, any floating dtype.
        dim: 2 or 3.
        backwards: From the end.

    Example:
        >>> import torch
        >>> running_maximum(torch.tensor([1.0, 3.0, 2.0, 5.0, 4.0]).reshape(1, 1, 1, 5), 3).flatten()
        tensor([1., 3., 3., 5., 5.])
    """
    size = int(values.shape[dim])
    reach = 1
    while reach < size:
        before = (0, reach) if backwards else (reach, 0)
        padded = pad(values, before if dim == 3 else (0, 0, *before), value=float('-inf'))
        values = values.maximum(padded.narrow(dim, reach if backwards else 0, size))
        reach *= 2
    return values


def _of_mode(mode: str) -> Any:
    dim, backwards = POOLS[mode]

    def forward(values: Tensor) -> Tensor:
        return running_maximum(values, dim, backwards)

    return forward
