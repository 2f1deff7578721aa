"""Errors that a user can act on.

Every deliberate refusal of mmsharp is a :class:`MmsharpError`. Its message names the thing, the value, what was
accepted and what to do; the command-line tools print it as one line and exit with status 2, without a traceback.
"""

from __future__ import annotations

import re
import reprlib
import sys
from typing import Any


class MmsharpError(ValueError):
    """Base of all deliberate refusals; a ``ValueError``, so that library users need not import it."""


_COLOURS = re.compile(r'\x1b\[[0-9;]*m')


def one_line(error: BaseException) -> str:
    r"""What another library's error says, on one line that starts with its type, without colours of a terminal.

    Example:
        >>> one_line(KeyError('scale')), one_line(ValueError()), one_line(OSError('a\n   \x1b[96mb\x1b[0m'))
        ("KeyError: 'scale'", 'ValueError', 'OSError: a b')
    """
    text = ' '.join(_COLOURS.sub('', str(error)).split())
    return f'{type(error).__name__}: {text}' if text else type(error).__name__


def shown(value: Any) -> str:
    """A stranger's value in a message, cut where it is long; Python refuses to print very large integers.

    Example:
        >>> shown('backbone.conv1'), shown(10**5000), len(shown('x' * 10**6))
        ("'backbone.conv1'", 'an integer of 16610 bits', 200)
    """
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return f'an integer of {value.bit_length()} bits'
    return _SHORT.repr(value)


class _Short(reprlib.Repr):
    """Long enough for module paths and for the names of types."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 200

    def repr_int(self, x: int, level: int) -> str:
        """Also inside of lists and mappings."""
        return super().repr_int(x, level) if abs(x) <= sys.float_info.max else f'an integer of {x.bit_length()} bits'


_SHORT = _Short()


def deliberate_refusal(error: BaseException) -> str | None:
    """The message of an :class:`MmsharpError`, also where it was raised in a worker of a data loader.

    The data loader raises the same type again in the main process, with the worker's traceback as the message; its last
    line is the error itself.

    Example:
        >>> deliberate_refusal(MmsharpError('image a.jpg is truncated'))
        'image a.jpg is truncated'
        >>> deliberate_refusal(KeyError('img')) is None
        True
    """
    if not isinstance(error, MmsharpError):
        return None
    text = str(error)
    if 'Original Traceback' not in text:
        return text
    return text.strip().splitlines()[-1].split(': ', 1)[-1]
