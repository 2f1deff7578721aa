"""Corruption of a grid's current cell, which one switch changes in every worker process."""

from typing import Any

import torch
from mmcv.transforms import BaseTransform

from mmsharp.datasets.transforms.corrupt import ChannelOrder, check_orders, corrupt_image
from mmsharp.robustness import NAMES, Backend, Cell, Constants, settle_constants


class CurrentCell:
    """The cell that is being evaluated, in memory shared with the data loader's workers.

    Workers hold copies of the dataset, and persistent ones keep them over passes: a plain attribute would stay what it
    was when they started. Switch it between passes only, when no worker is ahead.

    Example:
        >>> current = CurrentCell()
        >>> str(current.get())
        'clean'
        >>> current.set(Cell('fog', 3))
        >>> str(current.get())
        'fog/3'
    """

    def __init__(self) -> None:
        self._state = torch.zeros(2, dtype=torch.int64).share_memory_()

    def set(self, cell: Cell) -> None:
        """Make ``cell`` the one that every copy of this object sees."""
        self._state[0] = 0 if cell.is_clean else NAMES.index(cell.corruption)
        self._state[1] = cell.severity

    def get(self) -> Cell:
        """The cell that was set last, in whichever process."""
        name, severity = self._state.tolist()
        return Cell(NAMES[name], severity) if severity else Cell.clean()


class CorruptCurrentCell(BaseTransform):
    """What :class:`mmsharp.Corrupt` does, for the cell that ``current`` holds; see there for the rest."""

    def __init__(
        self,
        current: CurrentCell,
        seed: int,
        channel_order: ChannelOrder,
        image_order: ChannelOrder,
        data_root: str | None = None,
        backend: Backend = 'mmsharp',
        constants: Constants = 'auto',
    ) -> None:
        check_orders(seed, channel_order, image_order)
        settle_constants(backend, constants)
        self.current = current
        self.seed = seed
        self.channel_order = channel_order
        self.image_order = image_order
        self.data_root = data_root
        self.backend = backend
        self.constants = constants

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Corrupt the image of ``results``; in the clean cell nothing is touched."""
        cell = self.current.get()
        if not cell.is_clean:
            results['img'] = corrupt_image(
                results,
                cell,
                self.seed,
                self.channel_order,
                self.image_order,
                self.data_root,
                self.backend,
                self.constants,
            )
        return results
