"""Make ``.venv`` complete: ``sh scripts/set_up.sh``, which ``make`` runs before everything else.

Only the standard library is used here. A complete ``.venv`` is recognised by its stamp in a fraction of a second; an
unfinished one is continued. The variables it reads are listed in ``docs/installation.md``.
"""

import signal
import sys

from environment.errors import SetUpError
from environment.installation import set_up


def main() -> int:
    """Set up; return the exit status: 0 when complete, 2 for a refusal or a failed step, 130 when interrupted."""
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.default_int_handler)
    try:
        set_up()
    except SetUpError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('set-up was interrupted; the next call goes on where it stopped', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
