"""What every command-line tool of mmsharp shares: one clear line for an expected error, a traceback for a defect."""

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

from mmengine.config import DictAction

from mmsharp.errors import MmsharpError

_MEDIUM = frozenset(
    (
        *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST),
        *(errno.EISDIR, errno.ELOOP),
    )
)
"""What a disk says when it is full, not ours to write, or has a file or a link to itself where a folder should be."""


TRACEBACK = 'MMSHARP_TRACEBACK'
"""Set in the environment, it shows the traceback also of errors that are one line otherwise."""


class Options(DictAction):
    """``--cfg-options key=value ...``; what is no ``key=value`` is an error of the command line, not a traceback."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Read the pairs."""
        for value in [values] if isinstance(values, str) else values:
            if '=' not in value:
                parser.error(f'{option_string} {value!r} is no key=value, such as train_cfg.max_epochs=3')
        super().__call__(parser, namespace, values, option_string)


def run(main: Callable[[], None]) -> None:
    """Run a tool's ``main``; a refusal or a full disk becomes ``error: ...`` on stderr and exit status 2.

    Example:
        >>> run(lambda: None)
    """
    try:
        main()
    except MmsharpError as error:
        if os.environ.get(TRACEBACK):
            raise
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in _MEDIUM:
            raise
        print(f'error: {error}; finished work is kept, make room or choose another folder', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)
