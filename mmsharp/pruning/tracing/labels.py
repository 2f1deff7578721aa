"""Names for channels, and which names mean the same channel.

A label is an integer that stands for one channel of one axis of one layer. Tracing ties labels that have to live or
die together, and pins labels whose channels have to stay. Ties are only recorded; they are resolved once at the end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]

Axes = list[Labels | None]
"""Per dimension of a tensor: the labels of its channels, or ``None`` for a dimension that holds no channels."""


class ChannelLabels:
    """Labels, the ties between them, and the pins on them.

    Example:
        >>> labels = ChannelLabels()
        >>> first, second = labels.fresh(2), labels.fresh(2)
        >>> _ = labels.tie(first, second, 'why')
        >>> labels.pin(second[:1], 'read whole')
        >>> labels.roots().tolist(), labels.pinned(labels.roots())
        ([0, 1, 0, 1], {0: 'read whole'})
    """

    def __init__(self) -> None:
        self._count = 0
        self._ties: list[tuple[Labels, Labels]] = []
        self._pins: list[tuple[Labels, str]] = []
        self._resolved: tuple[tuple[int, int], Labels] | None = None

    def fresh(self, count: int) -> Labels:
        """``count`` labels that nobody has."""
        self._count += count
        return np.arange(self._count - count, self._count)

    def pin(self, labels: Labels | None, reason: str) -> None:
        """Say that these channels have to stay; ``None`` stands for an axis without channels."""
        if labels is not None:
            self._pins.append((labels, reason))

    def tie(self, first: Labels | None, second: Labels | None, reason: str) -> Labels | None:
        """Say that two axes are the same channels, position by position.

        An axis without channels (``None``) has a fixed size: what is tied to it is pinned for ``reason``, and what
        they are together has a fixed size too.
        """
        if first is None or second is None or len(first) != len(second):
            self.pin(first, reason)
            self.pin(second, reason)
            return None
        if first is not second:
            self._ties.append((first, second))
        return first

    def roots(self) -> Labels:
        """One representative per label: the smallest label among those tied to it."""
        state = (self._count, len(self._ties))
        if self._resolved is None or self._resolved[0] != state:
            self._resolved = state, self._resolve()
        return self._resolved[1]

    def _resolve(self) -> Labels:
        """Of each pair of trees that a tie joins, the root that is larger is hung below the smaller one."""
        parent = np.arange(self._count)
        if not self._ties:
            return parent
        first, second = (np.concatenate(side) for side in zip(*self._ties))
        while len(first):
            low, high = np.minimum(first, second), np.maximum(first, second)
            np.minimum.at(parent, high, low)
            while (parent[parent] != parent).any():
                parent = parent[parent]
            first, second = parent[first], parent[second]
            apart = first != second
            first, second = first[apart], second[apart]
        return parent

    def pinned(self, roots: Labels) -> dict[int, str]:
        """Root to the first reason why its channel has to stay."""
        reasons: dict[int, str] = {}
        for labels, reason in self._pins:
            for root in np.unique(roots[labels]).tolist():
                reasons.setdefault(root, reason)
        return reasons
