"""One set-up at a time: an advisory lock that dies with the last process holding it.

The running step inherits the lock. A set-up that was killed outright thus stays locked until the pip it left behind
has ended, and the next call waits instead of writing into the same ``.venv`` beside it.
"""

import fcntl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[int]:
    """Hold the lock file ``path``; wait for it if somebody else does, and say so every half minute.

    Args:
        path: The lock file; it is created and never removed.
        what: What the other process is doing, for the message.

    Yields:
        The file descriptor, to be passed on to child processes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a') as file:
        started, announced = time.monotonic(), -1
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - started
                if int(waited // 30) > announced:
                    announced = int(waited // 30)
                    print(f'waiting for {what} (lock {path}, {waited:.0f} s so far)', file=sys.stderr, flush=True)
                time.sleep(0.2)
        try:
            yield file.fileno()
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)
