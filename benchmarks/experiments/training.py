"""Train in a process of its own, alone in its folder, and know what it costs while it runs."""

from __future__ import annotations

import ctypes
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import psutil

from mmsharp.files import write_text

SECONDS = 10.0
"""Between two looks at what a training has cost: so much of it is lost at most where everything is killed."""


def run_timed(command: Sequence[str], log: IO[Any], clock: Path, lock: IO[Any]) -> int:
    """Run a training, and add what it costs to what the clock has, while it runs.

    It ends with this process: by itself where this one is stopped, and on Linux also where it is killed, so that none
    goes on untimed.

    Args:
        command: What to run.
        log: Where its output goes.
        clock: A file with the seconds of the clock and of the processors, of all starts.
        lock: An open file that is locked: the training has it open, too, so that it stays locked as long as it runs.

    Returns:
        Its exit status.
    """
    before = read_clock(clock) or (0.0, 0.0)
    start, ended = time.monotonic(), _seconds_of_the_ended()

    def note(used: float) -> None:
        write_text(clock, json.dumps([before[0] + time.monotonic() - start, before[1] + used]))

    process = subprocess.Popen(
        command,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=(lock.fileno(),),
        preexec_fn=_end_with_the_parent if sys.platform == 'linux' else None,
    )
    try:
        watched, used = psutil.Process(process.pid), 0.0
        while True:
            used = max(used, processor_seconds(watched))
            note(used)
            try:
                return process.wait(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                continue
    finally:
        process.kill()
        process.wait()
        note(_seconds_of_the_ended() - ended)


def read_clock(clock: Path) -> tuple[float, float] | None:
    """Seconds of the clock and of the processors; ``None`` where no training was timed."""
    if not clock.is_file():
        return None
    seconds, cpu_seconds = json.loads(clock.read_text(encoding='utf-8'))
    return seconds, cpu_seconds


def processor_seconds(process: psutil.Process) -> float:
    """Of a process and all that it has started, so far as they are there: others do not slow them down."""
    total = 0.0
    try:
        for one in (process, *process.children(recursive=True)):
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    except psutil.Error:
        return total
    return total


def _seconds_of_the_ended() -> float:
    """Of all processes that this one has started and seen end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _end_with_the_parent() -> None:
    """In the child: the kernel kills it when its parent is gone."""
    set_signal = 1
    ctypes.CDLL(None).prctl(set_signal, signal.SIGKILL)
