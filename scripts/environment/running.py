"""Run one step: everything it prints goes to a log, the terminal shows that it is alive."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from environment import folders
from environment.errors import SetUpError

QUIET_SECONDS = 30
TAIL_BYTES = 4096
SHOWN_LINES = 15


def clock(seconds: float) -> str:
    """Return minutes and seconds.

    Example:
        >>> clock(75.2)
        '1:15'
    """
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def tail(log: Path) -> str:
    """Return the end of ``log`` as text."""
    with log.open('rb') as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        return file.read().decode(errors='replace')


def activity(text: str) -> str:
    """Say in a few words what the end of a log is about: ninja's count of compiled files, else the last line.

    Example:
        >>> activity('[7/183] c++ -MMD -MF a.o')
        'file 7 of 183'
        >>> activity('Collecting torch==2.11.0')
        'Collecting torch==2.11.0'
    """
    counts = re.findall(r'^\s*\[(\d+)/(\d+)\]', text, flags=re.MULTILINE)
    if counts:
        return f'file {counts[-1][0]} of {counts[-1][1]}'
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ''


class Progress:
    """A line that is rewritten on a terminal, and a line every half minute elsewhere."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.started = time.monotonic()
        self.printed = self.started
        self.interactive = sys.stdout.isatty()

    def show(self, log: Path) -> None:
        """Show the time elapsed and what the step is doing."""
        now = time.monotonic()
        if not self.interactive and now - self.printed < QUIET_SECONDS:
            return
        self.printed = now
        text = f'      {clock(now - self.started)}  {activity(tail(log))}'
        width = shutil.get_terminal_size((120, 24)).columns - 1
        print(f'\r\x1b[K{text[:width]}' if self.interactive else text[:width], end='' if self.interactive else '\n')
        sys.stdout.flush()

    def clear(self) -> None:
        """Remove the rewritten line."""
        if self.interactive:
            print('\r\x1b[K', end='', flush=True)


def clean_environment(venv: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the process environment with ``venv`` first on the path and without what redirects Python or pip."""
    redirecting = {
        'PYTHONPATH', 'PYTHONHOME', 'PYTHONSTARTUP', 'PYTHONOPTIMIZE', 'CONDA_PREFIX', 'PIP_USER', 'PIP_TARGET',
        'PIP_PREFIX', 'PIP_ROOT', 'PIP_REQUIRE_VIRTUALENV', 'PIP_CONSTRAINT', 'PIP_NO_BINARY', 'PIP_DRY_RUN',
    }  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name not in redirecting}
    environment['VIRTUAL_ENV'] = str(venv)
    environment['PATH'] = f'{venv / "bin"}{os.pathsep}{environment.get("PATH", os.defpath)}'
    environment['PYTHONNOUSERSITE'] = '1'
    environment['PIP_DISABLE_PIP_VERSION_CHECK'] = '1'
    environment['PIP_NO_INPUT'] = '1'
    environment['PIP_USER'] = '0'
    environment.update(extra or {})
    return environment


def run_step(
    title: str,
    command: Sequence[str | Path],
    log_name: str,
    locks: tuple[int, ...] = (),
    extra_environment: Mapping[str, str] | None = None,
    cwd: Path = folders.ROOT,
    quiet: bool = False,
) -> str:
    """Run ``command`` as a step of set-up.

    Args:
        title: The step, for messages.
        command: Program and arguments.
        log_name: The log's name in ``.setup/logs``; the command is appended to it with all its output.
        locks: File descriptors of the locks that the command inherits.
        extra_environment: Variables set on top of :func:`clean_environment`.
        cwd: The folder to run in.
        quiet: Whether a failure is expected and its output stays in the log.

    Returns:
        What the command printed.

    Raises:
        SetUpError: If the command fails; the end of its log is printed before.
    """
    folders.LOGS.mkdir(parents=True, exist_ok=True)
    log = folders.LOGS / f'{log_name}.log'
    words = [str(word) for word in command]
    with log.open('ab') as file:
        file.write(f'\n$ {" ".join(words)}\n'.encode())
        begin = file.tell()
        file.flush()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=clean_environment(folders.VENV, extra_environment),
            pass_fds=locks,
            start_new_session=True,
        )
    progress = Progress(title)
    try:
        while process.poll() is None:
            time.sleep(0.2)
            progress.show(log)
    except BaseException:
        stop(process)
        raise
    finally:
        progress.clear()
    with log.open('rb') as file:
        file.seek(begin)
        output = file.read().decode(errors='replace')
    if process.returncode != 0:
        if not quiet:
            print('\n'.join(output.splitlines()[-SHOWN_LINES:]), file=sys.stderr)
        raise SetUpError(
            f'set-up failed at the step "{title}" (exit status {process.returncode}); '
            f'its log: {log.relative_to(folders.ROOT)}; call again to go on from here'
        )
    return output


def stop(process: 'subprocess.Popen[bytes]') -> None:
    """End ``process`` and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
