"""What ``constants='auto'`` came to for the images that were corrupted, in whichever process."""

import torch

from mmsharp.robustness import TABLES, constants_for

NAMES = tuple(TABLES)


class ConstantsSeen:
    """The tables of constants that images got, in memory shared with the data loader's workers.

    Example:
        >>> seen = ConstantsSeen()
        >>> seen.note('auto', (375, 500, 3))
        >>> seen.names
        ('imagenet',)
    """

    def __init__(self) -> None:
        self._seen = torch.zeros(len(NAMES), dtype=torch.int64).share_memory_()

    def note(self, constants: str, shape: tuple[int, ...]) -> None:
        """An image of this shape was corrupted with what these constants are for it."""
        self._seen[NAMES.index(constants_for(constants, shape))] = 1

    @property
    def names(self) -> tuple[str, ...]:
        """All that were noted so far, by any copy of this object."""
        return tuple(name for name, seen in zip(NAMES, self._seen.tolist(), strict=True) if seen)
