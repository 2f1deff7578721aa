"""The pruner of a mask search over channels: what goes, the masks say."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from mmsharp.pruning import ChannelPruner, Forward, GroupSet


class SearchedPruner(ChannelPruner):
    """A :class:`~mmsharp.pruning.ChannelPruner` whose decision was taken by the search, in ``model.mask_search``.

    Its groups are those that the search found; a budget has been met there.

    Example:
        >>> SearchedPruner().observes
        False
    """

    def __init__(self) -> None:
        super().__init__(budget=dict(channels=1.0))
        self.keep: list[Tensor] = []
        self._found: GroupSet | None = None

    def attach(self, model: Any, forward: Forward, groups: GroupSet | None = None) -> None:
        """Take over the groups of the search, or those that :meth:`know` was given where the masks have gone."""
        if self._found is not None:
            super().attach(model, forward, self._found)
            return
        with model.ordinary():
            super().attach(model, forward, model.mask_search.units.groups)

    @property
    def knows(self) -> bool:
        """Whether it needs no masks to :meth:`attach`."""
        return self._found is not None

    def know(self, groups: GroupSet) -> None:
        """Remember the groups of a search that has ended, before its masks are taken away."""
        self._found = groups

    def settle(self, model: Any) -> None:
        """Take over the binary masks of the search."""
        masks = model.mask_search
        self.keep = masks.units.keep(masks.hard(model))

    def decide(
        self,
        progress: float,
        adjust: Callable[[list[Tensor]], list[Tensor]] | None = None,
        view: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> list[Tensor]:
        """The masks, once they are settled; nothing goes before, and no scores or weights are looked at."""
        del adjust, view
        return self.keep if progress >= 1 and self.keep else self.masks.keep
