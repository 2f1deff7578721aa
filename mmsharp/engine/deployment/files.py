"""The files of a deployed model, exchanged as a whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmsharp.errors import MmsharpError
from mmsharp.files import hold, release

WEIGHTS, CONFIG, RECIPE, REPORT = 'slim.pth', 'config.py', 'recipe.json', 'slim.json'
STAGING = '.slim.partial'
LOCK = '.slim.lock'


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder inside ``folder`` to write the four files to; on leaving they take the place of those before.

    The config goes first and comes last: while it is there, the files beside it are those that it was written with.
    """
    existed = folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _only_writer(folder) as alone:
            staging = folder / f'{STAGING}.{os.getpid()}'
            for left in folder.glob(f'{STAGING}*') if alone else ():
                shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
            try:
                staging.mkdir(exist_ok=True)
                yield staging
                (folder / CONFIG).unlink(missing_ok=True)
                for name in (RECIPE, WEIGHTS, REPORT, CONFIG):
                    os.replace(staging / name, folder / name)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    finally:
        if not existed and folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def _only_writer(folder: Path) -> Iterator[bool]:
    """Hold a folder against other processes, on this machine or another; a kill lets go of it.

    Gives whether it is held: not where the file system has no locks.

    Raises:
        MmsharpError: Another one holds it.
    """
    refusal = f'another process is writing a slim model to {str(folder)!r}; wait for it or give another folder'
    path = folder / LOCK
    with open(path, 'a+b') as file:
        held = hold(file, refusal)
        if held and not (path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())):
            raise MmsharpError(refusal)  # who held it has finished in between, and taken it away
        try:
            yield held
        finally:
            path.unlink(missing_ok=True)
            release(file)
