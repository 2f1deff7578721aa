"""The cell of a grid that is being evaluated, which one switch changes in every worker process."""

import torch

from mmsharp.robustness import NAMES, Cell


class CurrentCell:
    """The cell that is being evaluated, in memory shared with the data loader's workers.

    Workers hold copies of the dataset, and persistent ones keep them over passes: a plain attribute would stay what it
    was when they started. Switch it between passes only, when no worker is ahead.

    With ``sized``, images that are too small for the corruptions are refused in the clean cell too, which is how they
    are found before any cell is evaluated.

    Example:
        >>> current = CurrentCell()
        >>> str(current.get())
        'clean'
        >>> current.set(Cell('fog', 3))
        >>> str(current.get())
        'fog/3'
    """

    def __init__(self) -> None:
        self._state = torch.zeros(3, dtype=torch.int64).share_memory_()

    def set(self, cell: Cell, sized: bool = False) -> None:
        """Make ``cell`` the one that every copy of this object sees."""
        self._state[0] = 0 if cell.is_clean else NAMES.index(cell.corruption)
        self._state[1] = cell.severity
        self._state[2] = sized

    def get(self) -> Cell:
        """The cell that was set last, in whichever process."""
        name, severity, _ = self._state.tolist()
        return Cell(NAMES[name], severity) if severity else Cell.clean()

    @property
    def sized(self) -> bool:
        """Whether images that are too small are refused in the clean cell too."""
        return bool(self._state[2])
