"""What every command-line tool of mmsharp shares: one clear line for an expected error, a traceback for a defect."""

import sys
from collections.abc import Callable

from mmsharp.errors import MmsharpError


def run(main: Callable[[], None]) -> None:
    """Run a tool's ``main``; an :class:`MmsharpError` becomes ``error: ...`` on stderr and exit status 2.

    Example:
        >>> run(lambda: None)
    """
    try:
        main()
    except MmsharpError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)
