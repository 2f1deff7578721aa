"""From which checkpoint a run goes on: the one that MMEngine noted, or else the newest that is whole."""

from __future__ import annotations

import logging
import os
import zipfile
from pathlib import Path

from mmengine.logging import print_log

from mmsharp.engine.checkpoints.checkpoint_fit import check_resumable
from mmsharp.engine.checkpoints.safe_checkpoint import UnsafeCheckpointError, check_checkpoint
from mmsharp.errors import MmsharpError

NOTE = 'last_checkpoint'
"""The file in which MMEngine notes the path of the latest checkpoint."""


def newest_resumable(work_dir: str | os.PathLike[str]) -> str | None:
    """The checkpoint that ``--resume`` goes on from; ``None`` where there is none yet.

    A kill may leave an empty note, a note of a file that has been removed, or half a checkpoint. These are skipped with
    a warning, and the newest whole checkpoint of a training run is taken. Best checkpoints are no candidates, because
    MMEngine writes them without the state of the optimizer.

    Raises:
        UnsafeCheckpointError: A checkpoint is whole but holds more than plain data. No kill leaves such a file.
    """
    noted = _noted(Path(work_dir))
    candidates = [] if noted is None else [noted]
    folders = dict.fromkeys([Path(work_dir), *(path.parent for path in candidates)])
    others = {path for folder in folders for path in folder.glob('*.pth') if not path.name.startswith('best_')}
    candidates += sorted(others - set(candidates), key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
    for path in candidates:
        try:
            check_resumable(check_checkpoint(path), str(path))
        except MmsharpError as error:
            if isinstance(error, UnsafeCheckpointError) and path.is_file() and zipfile.is_zipfile(path):
                raise
            print_log(f'not resumed: {error}', 'current', logging.WARNING)
        else:
            return str(path)
    return None


def _noted(work_dir: Path) -> Path | None:
    try:
        text = (work_dir / NOTE).read_text(encoding='utf-8').strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        text = ''
    if not text:
        print_log(f'{str(work_dir / NOTE)!r} is empty or damaged', 'current', logging.WARNING)
        return None
    return Path(text)
