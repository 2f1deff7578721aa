"""How many images are certified, and the time that is left: each takes a thousand passes of the model."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

from mmsharp.engine.robustness.cell_progress import clock_text

SECONDS = 30.0
"""Between two lines where there is no terminal."""


class ImageProgress:
    """A bar on a terminal; elsewhere a line after the first image and then every half minute.

    Args:
        title: Of what; the lines begin with it.
        total: How many images there are, if that is known.
        stream: Where to write; standard error, so that standard output holds the results alone.
        enabled: Off in all processes but the first.

    Example:
        >>> with ImageProgress('rotation:10', total=500, stream=sys.stdout) as progress:
        ...     progress.update()
        rotation:10  1/500 images, 0:00:0... left
    """

    def __init__(
        self, title: str, total: int | None = None, stream: TextIO | None = None, enabled: bool = True
    ) -> None:
        self.title = title
        self.total = total
        self.stream = sys.stderr if stream is None else stream
        self.done = 0
        terminal = self.stream.isatty()
        self._lines = enabled and not terminal
        self._bar = tqdm(
            total=total, desc=title, unit='image', leave=False, file=self.stream, disable=not (enabled and terminal)
        )
        self._began = self._shown = time.monotonic()

    def update(self) -> None:
        """One more image is certified."""
        self.done += 1
        self._bar.update()
        due = self.done == 1 or time.monotonic() - self._shown >= SECONDS
        if self._lines and due and self.done != self.total:
            self._shown = time.monotonic()
            self.stream.write(f'{self.title}  {self._text()}\n')
            self.stream.flush()

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()

    def __enter__(self) -> ImageProgress:
        """This."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As :meth:`close`."""
        self.close()

    def _text(self) -> str:
        each = (self._shown - self._began) / self.done
        if self.total is None:
            return f'{self.done} images, {each:.1f} s each'
        return f'{self.done}/{self.total} images, {clock_text(each * (self.total - self.done))} left'
