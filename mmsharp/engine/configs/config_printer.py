"""The library that MMEngine prints configs with, imported so that processes that start together do not fall over it."""

import importlib
import pickle
import time

SECONDS = 10.0


def import_config_printer(seconds: float = SECONDS) -> None:
    """Import yapf, again for a while where its cache is half written.

    The first import for a user writes a cache of the grammar, not in one piece; a second process that starts meanwhile,
    as launchers start them, reads what is there so far and dies.

    Args:
        seconds: How long another process is given to finish the file.

    Raises:
        EOFError: The cache is still torn; also as ``pickle.UnpicklingError``.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            importlib.import_module('yapf')
        except (EOFError, pickle.UnpicklingError):
            if time.monotonic() >= end:
                raise
            time.sleep(0.05)
        else:
            return
