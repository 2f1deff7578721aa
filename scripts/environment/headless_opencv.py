"""Let ``opencv-python-headless`` stand in for ``opencv-python``.

The toolboxes name ``opencv-python``, whose ``cv2`` needs libGL, which servers and containers lack; both write the same
files. A distribution without files, ``opencv-python X+headless``, that requires ``opencv-python-headless==X`` satisfies
them: pip never fetches the other one, and ``pip check`` stays clean.
"""

import base64
import hashlib
import zipfile
from pathlib import Path

from environment.errors import SetUpError

SUFFIX = '+headless'


def pinned_version(constraints: Path) -> str:
    """Return the version of ``opencv-python-headless`` that ``constraints`` pins."""
    for line in constraints.read_text(encoding='utf-8').splitlines():
        name, separator, version = line.partition('==')
        if separator and name.strip() == 'opencv-python-headless':
            return version.partition(';')[0].strip()
    raise SetUpError(f'{constraints} does not pin opencv-python-headless')


def write_stand_in(version: str, folder: Path) -> Path:
    """Write the wheel of the stand-in into ``folder`` and return its path.

    Args:
        version: The version of ``opencv-python-headless`` that it requires and answers for.
        folder: Where to write; created if missing.
    """
    name = f'opencv_python-{version}{SUFFIX}'
    files = {
        f'{name}.dist-info/METADATA': (
            f'Metadata-Version: 2.1\nName: opencv-python\nVersion: {version}{SUFFIX}\n'
            'Summary: Stands in for opencv-python; cv2 comes from opencv-python-headless\n'
            f'Requires-Dist: opencv-python-headless=={version}\n'
        ),
        f'{name}.dist-info/WHEEL': 'Wheel-Version: 1.0\nGenerator: mmsharp\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
    }
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()
        rows.append(f'{path},sha256={digest},{len(text.encode())}')
    files[f'{name}.dist-info/RECORD'] = '\n'.join([*rows, f'{name}.dist-info/RECORD,,']) + '\n'
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f'{name}-py3-none-any.whl'
    with zipfile.ZipFile(wheel, 'w') as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return wheel


def has_foreign_opencv(site_packages: Path) -> bool:
    """Say whether a real ``opencv-python`` (or the contrib build) is installed in ``site_packages``."""
    names = [path.name for path in site_packages.glob('opencv*.dist-info')]
    return any(
        name.startswith('opencv_contrib_python') or (name.startswith('opencv_python-') and SUFFIX not in name)
        for name in names
    )
