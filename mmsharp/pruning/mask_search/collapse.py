"""Notice when a network gives every image the same answer."""

from __future__ import annotations

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError


class CollapseWatch:
    """Counts which class is predicted, and says when one of them takes nearly all of a window.

    Args:
        window: How many images are looked at together.
        limit: Share of one class from which on it is a collapse.

    Raises:
        MmsharpError: A setting is out of range.

    Example:
        >>> watch = CollapseWatch(window=4, limit=0.9)
        >>> watch.see(torch.tensor([3, 3])), watch.see(torch.tensor([3, 3])), watch.see(torch.tensor([3, 3]))
        (None, 1.0, None)
    """

    def __init__(self, window: int = 512, limit: float = 0.95) -> None:
        if isinstance(window, bool) or not isinstance(window, int) or window < 2:
            raise MmsharpError(f'CollapseWatch: window is {window!r}, expected a whole number of images, at least 2')
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 < limit <= 1:
            raise MmsharpError(f'CollapseWatch: limit is {limit!r}, expected a share above 0 and at most 1')
        self.window, self.limit = window, float(limit)
        self._seen: list[Tensor] = []
        self._count = 0

    def see(self, predictions: Tensor) -> float | None:
        """Take in the predicted classes of a batch, int64 of shape ``(N,)``.

        Returns:
            The share of the commonest class where a window is full and that share reaches the limit; ``None`` else.
        """
        self._seen.append(predictions.detach())
        self._count += len(predictions)
        if self._count < self.window:
            return None
        classes = torch.cat(self._seen)
        self._seen, self._count = [], 0
        share = float(classes.bincount().max()) / len(classes)
        return share if share >= self.limit else None
