"""A made data set is there as a whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmsharp.errors import MmsharpError
from mmsharp.files import read_json

FILES = 'files'
"""Where a manifest says how many files its set has."""


def holds_complete_set(target: Path, file: str, manifest: Mapping[str, Any]) -> bool:
    """Whether a folder holds the very set that a manifest describes; false where there is nothing.

    Args:
        target: The folder.
        file: Name of the manifest inside it, written last.
        manifest: Version and settings.

    Raises:
        MmsharpError: The folder holds something else, a damaged manifest, a set made with other settings, or fewer or
            more files than were made.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    path = target / file
    if not path.is_file():
        raise MmsharpError(f'{str(target)!r} exists and has no {file}; give another folder, or move it away')
    found = read_json(path, 'give another folder, or delete it to make it anew')
    for key, value in manifest.items():
        if found.get(key) != value:
            raise MmsharpError(
                f'{str(target)!r} holds a set made with {key}={found.get(key)!r}, not {value!r}; give another folder, '
                'or delete it to make it anew'
            )
    present, made = _count_files(target, file), found.get(FILES)
    if made is not None and present != made:
        raise MmsharpError(
            f'{str(target)!r} holds {present} files, and {made} when it was made; delete it to make it anew'
        )
    return True


def _count_files(folder: Path, manifest: str) -> int:
    """How many files a set has beside its manifest."""
    return sum(len(files) for _, _, files in os.walk(folder)) - (folder / manifest).is_file()


@contextmanager
def appearing_at_once(target: Path, file: str, manifest: Mapping[str, Any]) -> Iterator[Path]:
    """A folder beside ``target`` to write into; on leaving it gets its manifest and takes the target's place at once.

    What an interrupted call left beside the target is removed first; after an exception the target is as before.

    Args:
        target: Where the set shall be; absent or empty.
        file: Name of the manifest.
        manifest: Version and settings; entries added before leaving are written too.
    """
    partial = target.with_name(target.name + '.partial')
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    (partial / file).write_text(json.dumps({**manifest, FILES: _count_files(partial, file)}, indent=1) + '\n')
    if target.exists():
        target.rmdir()
    os.replace(partial, target)
