"""What a config says that its parts refuse: one line instead of the traceback of a registry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mmsharp.errors import MmsharpError, one_line

REFUSALS = (AssertionError, KeyError, TypeError, ValueError)
"""What parts raise for arguments that they do not know or take; anything else is a defect and keeps its traceback."""


@contextmanager
def naming_broken_config(path: str | None) -> Iterator[None]:
    """Say which config it was when a part of it refuses to be built.

    Args:
        path: The config file; ``None`` for one that was made in memory.

    Raises:
        MmsharpError: An assertion, a key, a type or a value was wrong inside; the message names it.

    Example:
        >>> with naming_broken_config('a.py'):
        ...     raise KeyError('invalid depth 19 for resnet')
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: config 'a.py' cannot be built: KeyError: 'invalid depth 19 for resnet'; ...
    """
    try:
        yield
    except MmsharpError:
        raise
    except REFUSALS as error:
        what = 'the config' if path is None else f'config {path!r}'
        raise MmsharpError(
            f'{what} cannot be built: {one_line(error)}; change it or its --cfg-options (MMSHARP_TRACEBACK=1 shows '
            'where it was raised)'
        ) from error
