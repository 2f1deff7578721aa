"""What each pruning step did to each group of channels, in a file of lines that a resumed run goes on with."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.files import write_text
from mmsharp.pruning import ChannelGroup

FILE = 'psap.jsonl'


class PruningLog:
    """A JSON object per line: ``iteration``, ``phase``, ``group`` and numbers.

    Args:
        folder: Of the run; made when the first line is written.

    Example:
        >>> import tempfile
        >>> log = PruningLog(tempfile.mkdtemp())
        >>> log.write([dict(iteration=3, group='stem', protected=1), dict(iteration=6, group='stem', protected=0)])
        >>> log.begin(5)
        >>> log.read()
        [{'iteration': 3, 'group': 'stem', 'protected': 1}]
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder) / FILE

    def begin(self, iteration: int) -> None:
        """Forget the lines from this iteration on, which an interrupted run has left and a resumed one writes again."""
        if self.path.exists():
            kept = [line for line in self.read() if line['iteration'] < iteration]
            write_text(self.path, ''.join(f'{json.dumps(line)}\n' for line in kept))

    def write(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add lines."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open('a', encoding='utf-8') as file:
            file.write(''.join(f'{json.dumps(dict(line), allow_nan=False)}\n' for line in lines))

    def read(self) -> list[dict[str, Any]]:
        """All lines; a last one that a kill has torn is left out.

        Raises:
            MmsharpError: Another line is no object with an iteration.
        """
        *whole, _ = self.path.read_text(encoding='utf-8').split('\n')
        lines = []
        for number, text in enumerate(whole, start=1):
            try:
                line = json.loads(text)
                int(line['iteration'])
            except (ValueError, KeyError, TypeError):
                raise MmsharpError(
                    f'{str(self.path)!r}, line {number}, is not one that mmsharp has written; remove the file'
                ) from None
            lines.append(line)
        return lines


def step_lines(
    step: Mapping[str, Any], groups: Sequence[ChannelGroup], protected: Sequence[Tensor], refilled: Sequence[Tensor]
) -> list[dict[str, Any]]:
    """The lines of one pruning step.

    Args:
        step: ``iteration``, ``phase``, and per group ``sparsity`` and the numbers ``zeroed`` and ``held``: of kept
            channels that evidence has saved.
        groups: The groups.
        protected: Bool of shape ``(channels,)`` per group: what came back.
        refilled: Likewise: what was zeroed instead.

    Example:
        >>> import torch
        >>> step = dict(iteration=7, phase='soft', sparsity=[0.25], zeroed=[2], held=[0])
        >>> group, nothing = ChannelGroup('stem', 4, ()), torch.zeros(4, dtype=torch.bool)
        >>> step_lines(step, [group], [torch.arange(4) == 1], [nothing])
        [{'iteration': 7, 'phase': 'soft', 'group': 'stem', 'channels': 4, 'sparsity_ratio': 0.25, 'pruning_ratio': 0.5,
          'zeroed': 2, 'held': 0, 'protected': 1, 'refilled': 0}]
    """
    return [
        dict(
            iteration=step['iteration'],
            phase=step['phase'],
            group=group.name,
            channels=group.channels,
            sparsity_ratio=round(sparsity, 6),
            pruning_ratio=round(zeroed / group.channels, 6),
            zeroed=zeroed,
            held=saved,
            protected=int(back.sum()),
            refilled=int(instead.sum()),
        )
        for group, sparsity, zeroed, saved, back, instead in zip(
            groups, step['sparsity'], step['zeroed'], step['held'], protected, refilled
        )
    ]
