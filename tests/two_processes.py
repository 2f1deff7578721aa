"""Two processes of one gloo group that run a function of a test module; they cannot outlive a time limit.

The functions are found by the path of their file, since test modules have no importable names, and give back tensors
and plain data.
"""

import faulthandler
import importlib.util
import inspect
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from unittest import mock

import forkserver  # noqa: F401 - what its new processes have imported
import torch
import torch.distributed
import torch.multiprocessing
from torch.multiprocessing.spawn import ProcessException

from mmsharp.engine.configs.config_printer import import_config_printer

SECONDS = 180
"""The limit; a test takes a few seconds on an idle machine, most of it for imports."""


class ProcessError(AssertionError):
    """A process raised or died, or they did not end in time."""


def in_two_processes(function, folder, *arguments, seconds=SECONDS):
    """Call ``function(rank, *arguments)`` in both processes of a new group and give back both results, by rank.

    Args:
        function: A function at the top level of a file.
        folder: A folder without a rendezvous of an earlier group.
        arguments: What can be pickled.
        seconds: The time limit.

    Raises:
        ProcessError: A process raised, with the tracebacks, the earliest first; or the time is over, with where each
            process stood.
    """
    where = (inspect.getsourcefile(function), function.__name__)
    deadline = time.monotonic() + seconds
    with mock.patch.dict(os.environ, CUDA_VISIBLE_DEVICES=''):
        context = torch.multiprocessing.start_processes(
            _work, (where, str(folder), arguments), nprocs=2, join=False, start_method='forkserver'
        )
    try:
        while not context.join(timeout=max(deadline - time.monotonic(), 0.01)):
            if time.monotonic() >= deadline:
                raise ProcessError(_stacks(context.processes, folder))
    except ProcessException as error:
        raise ProcessError(_tracebacks(folder) or str(error)) from None
    finally:
        for process in context.processes:
            process.kill()
            process.join()
    return [torch.load(folder / f'{rank}.pt', weights_only=True) for rank in range(2)]


def _work(rank, where, folder, arguments):
    folder = Path(folder)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2')
    torch.set_num_threads(1)
    import_config_printer()
    with (folder / f'{rank}.stack').open('w') as stack:
        faulthandler.register(signal.SIGUSR1, file=stack)
        rendezvous = f'file://{folder / "rendezvous"}'
        torch.distributed.init_process_group('gloo', init_method=rendezvous, rank=rank, world_size=2)
        try:
            torch.save(_function(*where)(rank, *arguments), folder / f'{rank}.pt')
        except BaseException:
            # Before the connection closes, over which the other process would fall.
            (folder / f'{rank}.failure').write_text(traceback.format_exc())
            raise
        finally:
            torch.distributed.destroy_process_group()


def _function(path, name):
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return getattr(module, name)


def _tracebacks(folder):
    paths = sorted(folder.glob('*.failure'), key=lambda path: path.stat().st_mtime_ns)
    return '\n'.join(f'process {path.stem}:\n{path.read_text()}' for path in paths)


def _stacks(processes, folder):
    for process in processes:
        if process.is_alive():
            os.kill(process.pid, signal.SIGUSR1)
    time.sleep(0.5)
    lines = ['the processes did not end in time']
    for path in sorted(folder.glob('*.stack')):
        lines.append(f'process {path.stem}:\n{path.read_text() or "ended"}')
    return '\n'.join(lines)
