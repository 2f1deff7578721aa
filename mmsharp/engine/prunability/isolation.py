"""A call in a process of its own: its crash, its hunger for memory or its endless loop ends nothing but itself."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmsharp.errors import one_line

LOG, ERROR = 'log.txt', 'error.txt'


def run_isolated(
    call: Callable[..., None], arguments: Sequence[Any], folder: Path, timeout: float, began: float | None = None
) -> str | None:
    """Run ``call(*arguments)`` in a new process and wait for its end, however it ends.

    The process is forked from a server that has imported what :func:`preload` named and has built nothing. What it
    prints goes to ``log.txt`` in the folder.

    Args:
        call: A function of a module; hands over what it finds in files.
        arguments: Picklable.
        folder: Exists; of this call alone.
        timeout: Seconds until the process is killed.
        began: Since when they count, by ``time.monotonic()``; now without it.

    Returns:
        ``None`` after a return, else the reason on one line.
    """
    process = _CONTEXT.Process(target=_call, args=(call, tuple(arguments), folder))
    began = time.monotonic() if began is None else began
    process.start()
    try:
        process.join(max(timeout - (time.monotonic() - began), 0))
        if process.is_alive():
            return f'took more than {timeout:g} seconds'
    finally:
        if process.is_alive():
            process.kill()
        process.join()
    if process.exitcode == 0:
        return None
    error = folder / ERROR
    if error.is_file():
        return error.read_text(encoding='utf-8')
    assert process.exitcode is not None
    if process.exitcode < 0:
        name = signal.Signals(-process.exitcode).name
        hint = ', perhaps because memory ran out' if name == 'SIGKILL' else ''
        return f'the process was ended by {name}{hint}'
    return f'the process ended with status {process.exitcode}'


def preload(modules: Sequence[str]) -> None:
    """Import these once, in the server that new processes are forked from; before the first of them."""
    _CONTEXT.set_forkserver_preload(list(modules))


_CONTEXT: Any = multiprocessing.get_context('forkserver')


def _call(call: Callable[..., None], arguments: tuple[Any, ...], folder: Path) -> None:
    with open(folder / LOG, 'ab', buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        call(*arguments)
    except BaseException as error:
        import traceback

        traceback.print_exc()
        (folder / ERROR).write_text(one_line(error), encoding='utf-8')
        sys.stderr.flush()
        os._exit(1)  # no clean-up of a library gets to hang or to change the status
    sys.stdout.flush()
    os._exit(0)
