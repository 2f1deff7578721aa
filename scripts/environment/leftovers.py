"""Find what a killed pip left behind.

pip takes a distribution for installed as soon as its metadata folder is there, and writes ``RECORD`` last. A kill in
between leaves a distribution that pip calls "already satisfied" although files are missing. Removing the metadata
folder of every such distribution makes pip install it again.
"""

import csv
import shutil
from pathlib import Path


def is_whole(metadata: Path) -> bool:
    """Say whether the distribution of a ``*.dist-info`` folder has its ``RECORD`` and every file in it."""
    record = metadata / 'RECORD'
    if not record.is_file() or not (metadata / 'METADATA').is_file():
        return False
    with record.open(newline='', encoding='utf-8') as file:
        return all(
            (metadata.parent / row[0]).exists() for row in csv.reader(file) if row and '__pycache__' not in row[0]
        )


def remove_unfinished(site_packages: Path) -> list[str]:
    """Remove the metadata of unfinished distributions and pip's own leftovers; return their names.

    Args:
        site_packages: The folder in which distributions are installed.
    """
    removed = []
    for folder in sorted(site_packages.iterdir()):
        stale = folder.name.startswith('~') or (folder.suffix == '.dist-info' and not is_whole(folder))
        if stale and folder.is_dir():
            shutil.rmtree(folder)
            removed.append(folder.name.removesuffix('.dist-info'))
    return removed
