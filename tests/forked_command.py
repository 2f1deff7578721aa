"""Scripts in processes of their own that need not import the toolboxes anew, which takes ten seconds."""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import forkserver  # noqa: F401 - what its new processes have imported

_CONTEXT = multiprocessing.get_context('forkserver')


def run_forked(
    script: Path, arguments: Sequence[str], cwd: Path, timeout: float = 200
) -> subprocess.CompletedProcess[str]:
    """Run a script as ``python script arguments`` does in a folder, forked from a server that has imported much.

    Nothing that it changes is left: neither modules nor registries nor files but its own. Two things are not as for a
    user: what is imported already is not imported by it, and the standard streams are files.
    """
    with tempfile.TemporaryDirectory() as folder:
        streams = [Path(folder) / name for name in ('stdout', 'stderr')]
        process = _CONTEXT.Process(target=_run, args=(str(script), list(arguments), str(cwd), *map(str, streams)))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            printed = '\n'.join(stream.read_text(errors='replace') for stream in streams if stream.exists())
            raise TimeoutError(f'{script.name} took more than {timeout} seconds; it printed {printed[-3000:]}')
        texts = [stream.read_text(errors='replace') if stream.exists() else '' for stream in streams]
        return subprocess.CompletedProcess([str(script), *arguments], process.exitcode or 0, *texts)


def _run(script: str, arguments: list[str], cwd: str, *streams: str) -> None:
    for number, path in enumerate(streams, start=1):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server ignores it
    os.chdir(cwd)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name='__main__')
