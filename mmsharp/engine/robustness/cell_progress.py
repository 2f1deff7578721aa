"""One progress display over the cells of a grid, with the time that is left."""

import sys
import time
from typing import Any, TextIO

from mmengine.hooks import Hook

from mmsharp.robustness import Cell

REFRESH_SECONDS = 0.5


class CellProgress(Hook):
    """Shows which cell is being evaluated and how far the grid is; a hook, so that it hears of every batch.

    On a terminal one line is rewritten; elsewhere a line is printed per finished cell. The time left is the mean time
    of the cells of this run times the cells to go.

    Args:
        cells: How many cells the grid has.
        finished: How many of them an earlier run has finished.
        stream: Where to write; standard error, so that standard output holds the results alone.
        enabled: Off in all processes but the first.
    """

    priority = 'VERY_LOW'

    def __init__(self, cells: int, finished: int = 0, stream: TextIO | None = None, enabled: bool = True) -> None:
        self.cells = cells
        self.finished = finished
        self.stream = sys.stderr if stream is None else stream
        self.enabled = enabled
        self.batches = 1
        self._cell: Cell | None = None
        self._done = 0
        self._began = self._shown = time.monotonic()

    def begin(self, cell: Cell, batches: int) -> None:
        """A pass over ``batches`` batches starts."""
        self._cell, self.batches = cell, max(batches, 1)
        self._show(0)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """A batch of the current pass is done."""
        if time.monotonic() - self._shown >= REFRESH_SECONDS:
            self._show(batch_idx + 1)

    def end(self, text: str) -> None:
        """The current pass is done; ``text`` says with what result."""
        self._done += 1
        self.finished += 1
        if self.enabled:
            line = f'[{self.finished:>3}/{self.cells}] {self._cell!s:<22} {text}   {self._left(0.0)}'
            self._write(f'\r{line:<100}\n' if self.stream.isatty() else f'{line}\n')

    def _show(self, batch: int) -> None:
        self._shown = time.monotonic()
        if self.enabled and self.stream.isatty():
            part = batch / self.batches
            line = f'[{self.finished:>3}/{self.cells}] {self._cell!s:<22} {part:>4.0%}   {self._left(part)}'
            self._write(f'\r{line:<100}')

    def _left(self, part: float) -> str:
        passes = self._done + part
        if passes == 0:
            return ''
        seconds = (time.monotonic() - self._began) / passes * (self.cells - self.finished - part)
        return f'{clock_text(seconds)} left'

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


def clock_text(seconds: float) -> str:
    """A time in hours, minutes and seconds.

    Example:
        >>> clock_text(3725.4)
        '1:02:05'
    """
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    return f'{minutes // 60}:{minutes % 60:02}:{seconds:02}'
