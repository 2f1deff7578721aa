"""The cell of a grid that is being evaluated, which one switch changes in every worker process."""

import torch

from mmsharp.robustness import NAMES, Cell


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
