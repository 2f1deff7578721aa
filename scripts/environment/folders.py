"""Where set-up keeps its things.

``.venv`` is the environment; ``.setup`` holds the lock, the logs and what waits to be deleted; the user's cache holds
the compiled mmcv, so that a second clone does not compile it again.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / '.venv'
PYTHON = VENV / 'bin' / 'python'
WORK = ROOT / '.setup'
LOGS = WORK / 'logs'
REQUIREMENTS = ROOT / 'requirements'
INSIDE = Path(__file__).resolve().parent / 'inside'


def user_cache() -> Path:
    """Return ``$XDG_CACHE_HOME/mmsharp`` (``~/.cache/mmsharp``), or ``.setup/cache`` where that cannot be written."""
    base = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    folder = Path(base) / 'mmsharp'
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = WORK / 'cache'
        folder.mkdir(parents=True, exist_ok=True)
    return folder if os.access(folder, os.W_OK) else WORK / 'cache'
