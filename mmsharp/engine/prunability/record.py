"""The rows of a survey in a JSON file that is whole at every moment, so that a survey can be killed and goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmsharp.engine.costs.machine import machine, versions
from mmsharp.errors import MmsharpError
from mmsharp.files import read_json, write_json

PACKAGES = ('torch', 'onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmpretrain', 'mmsharp')


class ProbeRecord:
    """A JSON file with one row per config, beside what they were measured with.

    Args:
        path: The file; rows that it has are kept, if they were measured with the same settings and versions.
        settings: What decides the numbers, in JSON types.

    Raises:
        MmsharpError: The file cannot be read, or holds rows of other settings or versions.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / 'rows.json'
        >>> ProbeRecord(path, dict(ratio=0.5)).add(dict(toolbox='mmdet', config='a.py', status='pass'))
        >>> ProbeRecord(path, dict(ratio=0.5)).has('mmdet', 'a.py')
        True
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.settings = dict(settings)
        self.versions = versions(PACKAGES)
        self.rows: list[dict[str, Any]] = []
        if not self.path.exists():
            return
        found = read_json(self.path, 'give another --json, or remove it', ('settings', 'versions', 'rows'))
        for name, own in (('settings', self.settings), ('versions', self.versions)):
            if found[name] != own:
                raise MmsharpError(
                    f'{str(self.path)!r} was measured with {name} {found[name]}, and now they are {own}; give another '
                    '--json, or remove it'
                )
        self.rows = list(found['rows'])

    def has(self, toolbox: str, config: str, size: int | None = None) -> bool:
        """Whether there is a row of this config, and of images of this height and width where one is named."""
        return any(
            (row['toolbox'], row['config']) == (toolbox, config) and row.get('size', size) == (size or row.get('size'))
            for row in self.rows
        )

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row, or replace the one of the same config; on the disk when this returns."""
        same = (row['toolbox'], row['config'])
        rows = [other for other in self.rows if (other['toolbox'], other['config']) != same]
        self.rows = sorted([*rows, dict(row)], key=lambda entry: (entry['toolbox'], entry['config']))
        content = dict(machine=machine(), versions=self.versions, settings=self.settings, rows=self.rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, content)
