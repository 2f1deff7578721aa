"""Window attention whose batch size an exporter can leave open."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

NAME = 'window_reverse'


@contextmanager
def traceable_windows(model: nn.Module) -> Iterator[None]:
    """Put windows together without asking how many images there are, in every attention of a model.

    The toolboxes compute the batch size as a Python number from the number of windows, which an exporter writes into
    the graph. The same map comes of the sizes that are left: height, width and channels.
    """
    changed = []
    try:
        for module in model.modules():
            plain = getattr(module, NAME, None)
            if callable(plain) and NAME not in module.__dict__:
                takes_size = 'window_size' in inspect.signature(plain).parameters
                module.__dict__[NAME] = window_reverse if takes_size else _of_size(int(module.window_size))  # type: ignore[arg-type]
                changed.append(module)
        yield
    finally:
        for module in changed:
            del module.__dict__[NAME]


def window_reverse(windows: Tensor, H: Any, W: Any, window_size: int) -> Tensor:  # noqa: N803 - the toolboxes' names
    """(N * H/w * W/w, w, w, C) to (N, H, W, C), as Swin's attention does.

    Example:
        >>> import torch
        >>> windows = torch.arange(8.0).reshape(4, 1, 2, 1).expand(4, 2, 2, 1)
        >>> window_reverse(windows, 4, 4, 2)[0, ..., 0]
        tensor([[0., 1., 2., 3.],
                [0., 1., 2., 3.],
                [4., 5., 6., 7.],
                [4., 5., 6., 7.]])
    """
    channels = windows.shape[-1]
    tiles = windows.view(-1, H // window_size, W // window_size, window_size, window_size, channels)
    return tiles.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, H, W, channels)


def _of_size(window_size: int) -> Any:
    def reverse(windows: Tensor, H: Any, W: Any) -> Tensor:  # noqa: N803 - the toolboxes' names
        return window_reverse(windows, H, W, window_size)

    return reverse
