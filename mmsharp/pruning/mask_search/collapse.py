"""Notice when a network gives every image the same answer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError

LEAST = 32
"""Of fewer images that are no full window nothing is said: two images get one class by chance."""


class Collapse(NamedTuple):
    """What was found.

    Attributes:
        share: Of the commonest class.
        images: Of how many.
    """

    share: float
    images: int


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
        (None, Collapse(share=1.0, images=4), None)
    """

    def __init__(self, window: int = 512, limit: float = 0.95) -> None:
        if isinstance(window, bool) or not isinstance(window, int) or window < 2:
            raise MmsharpError(f'CollapseWatch: window is {window!r}, expected a whole number of images, at least 2')
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not 0 < limit <= 1:
            raise MmsharpError(f'CollapseWatch: limit is {limit!r}, expected a share above 0 and at most 1')
        self.window, self.limit = window, float(limit)
        self._seen: list[Tensor] = []
        self._count = 0

    def see(self, predictions: Tensor) -> Collapse | None:
        """Take in the predicted classes of a batch, int64 of shape ``(N,)``.

        Returns:
            The share of the commonest class where a window is full and that share reaches the limit; ``None`` else.
        """
        self._seen.append(predictions.detach())
        self._count += len(predictions)
        return self.end() if self._count >= self.window else None

    def end(self) -> Collapse | None:
        """Look at what has come since the last full window, and forget it; 32 images, or a smaller window, are enough.

        Example:
            >>> watch = CollapseWatch(window=512)
            >>> watch.see(torch.zeros(40, dtype=torch.int64)), watch.end(), watch.end()
            (None, Collapse(share=1.0, images=40), None)
        """
        seen, self._seen, self._count = self._seen, [], 0
        return self.look(torch.cat(seen)) if seen else None

    def look(self, predictions: Tensor) -> Collapse | None:
        """The same of these predictions alone; nothing is taken in."""
        images = len(predictions)
        if images < min(LEAST, self.window):
            return None
        share = float(predictions.bincount().max()) / images
        return Collapse(share, images) if share >= self.limit else None
