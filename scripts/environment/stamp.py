"""The stamp that says ``.venv`` is complete: written last, valid for exactly what it was made from."""

import hashlib
import json
import os
import sys
from pathlib import Path

from environment import folders

STAMP = 'mmsharp-complete.json'
MARKER = 'mmsharp-environment.json'


def source_files(root: Path) -> list[Path]:
    """Return the files that decide what is installed: requirements, packaging, version and the set-up itself."""
    return [
        *sorted((root / 'requirements').glob('*.txt')),
        root / 'setup.py',
        root / 'mmsharp' / 'version.py',
        *sorted((root / 'scripts' / 'environment').rglob('*.py')),
    ]


def fingerprint(root: Path) -> str:
    """Return a SHA-256 over the names and contents of :func:`source_files`."""
    digest = hashlib.sha256()
    for path in source_files(root):
        digest.update(f'{path.relative_to(root)}\0'.encode())
        digest.update(path.read_bytes() if path.is_file() else b'')
        digest.update(b'\0')
    return digest.hexdigest()


def identity(root: Path) -> dict[str, str]:
    """Return what ties an environment to its place: it can be neither moved nor used by another Python."""
    return {'root': str(root), 'python': sys.version.split()[0], 'base': sys.base_prefix}


def read(path: Path) -> dict[str, object]:
    """Return the JSON object in ``path``, or an empty one when it is missing or cut off."""
    try:
        value = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write(path: Path, value: dict[str, object]) -> None:
    """Write ``value`` to ``path`` in one step."""
    temporary = path.with_name(f'{path.name}.{os.getpid()}')
    temporary.write_text(json.dumps(value, indent=2) + '\n', encoding='utf-8')
    os.replace(temporary, path)


def is_complete(root: Path, venv: Path) -> bool:
    """Say whether ``venv`` was finished, for these files, this Python and this folder, and is still there."""
    stamp = read(venv / STAMP)
    return (
        stamp.get('fingerprint') == fingerprint(root)
        and stamp.get('identity') == identity(root)
        and os.access(venv / 'bin' / 'python', os.X_OK)
        and all((root / 'mmsharp' / '.mim' / name).exists() for name in ('configs', 'tools') if (root / name).is_dir())
    )


def is_ours(root: Path, venv: Path) -> bool:
    """Say whether ``venv`` was begun by set-up with this Python in this folder, complete or not."""
    return read(venv / MARKER) == identity(root)


def mark_complete(seconds: float) -> None:
    """Write the stamp of the environment in :data:`environment.folders.VENV`."""
    write(
        folders.VENV / STAMP,
        {
            'fingerprint': fingerprint(folders.ROOT),
            'identity': identity(folders.ROOT),
            'seconds': round(seconds, 1),
        },
    )
