"""Checkpoints come from strangers: open them as data before anything may unpickle them.

MMEngine's loader tries ``weights_only=True`` and falls back to unpickling, which runs whatever the file says. Here
every local checkpoint is opened once under MMEngine's own allow-list, and a refusal ends the run before that loader
sees it.
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.runner import find_latest_checkpoint
from mmengine.runner.checkpoint import get_torch_safe_globals

from mmsharp.errors import MmsharpError


class UnsafeCheckpointError(MmsharpError):
    """A checkpoint that is missing, broken, or holds more than tensors and plain data."""


def check_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Open a checkpoint with ``weights_only=True`` under MMEngine's allow-list and return it, on the CPU.

    Args:
        path: A local file, or an ``http(s)`` address, which is downloaded to torch's hub cache first: the place from
            which MMEngine then loads the very same file.

    Raises:
        UnsafeCheckpointError: The file is missing, truncated, not a checkpoint, or would have to be unpickled.

    Example:
        >>> check_checkpoint('missing.pth')
        Traceback (most recent call last):
        mmsharp.engine.safe_checkpoint.UnsafeCheckpointError: checkpoint 'missing.pth' does not exist; give the path ...
    """
    local = _downloaded(str(path)) if str(path).startswith(('http://', 'https://')) else Path(path).expanduser()
    if not local.is_file():
        raise UnsafeCheckpointError(f'checkpoint {str(path)!r} does not exist; give the path of a .pth file')
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(get_torch_safe_globals()):
            warnings.simplefilter('ignore')
            checkpoint = torch.load(local, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise UnsafeCheckpointError(
            f'checkpoint {str(path)!r} cannot be read as plain tensors and data ({reason}); loading it would run code '
            "that it contains. If you trust its origin, load it once yourself and save its 'state_dict' alone"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnsafeCheckpointError(
            f'checkpoint {str(path)!r} ({local.stat().st_size} bytes) is damaged or no checkpoint ({reason}); '
            'copy or download it again, or give an earlier one'
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise UnsafeCheckpointError(
            f'checkpoint {str(path)!r} holds a {type(checkpoint).__name__}; expected a dict with a `state_dict`'
        )
    return dict(checkpoint)


def check_config_checkpoints(
    load_from: str | None, resume: bool | str, work_dir: str, model: Mapping[str, Any] | None = None
) -> None:
    """Check every checkpoint that a run would load: what is resumed, ``load_from``, and ``init_cfg`` files.

    Args:
        load_from: As in the config.
        resume: As in the config: true finds the latest checkpoint of ``work_dir`` unless ``load_from`` is given.
        work_dir: The folder of the run.
        model: The config of the model, searched for ``init_cfg=dict(type='Pretrained', checkpoint=...)``.

    Raises:
        UnsafeCheckpointError: One of them is refused.
    """
    candidates = [load_from] if load_from else []
    if resume is True and not load_from and os.path.isdir(work_dir):
        candidates.append(find_latest_checkpoint(work_dir))
    elif isinstance(resume, str):
        candidates.append(resume)
    candidates.extend(_pretrained(model or {}))
    for path in candidates:
        if path and ('://' not in str(path) or str(path).startswith(('http://', 'https://'))):
            check_checkpoint(path)


def _pretrained(config: Any) -> Iterator[str]:
    if isinstance(config, Mapping):
        if config.get('type') == 'Pretrained' and isinstance(config.get('checkpoint'), str):
            yield config['checkpoint']
        for value in config.values():
            yield from _pretrained(value)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _pretrained(value)


def _downloaded(address: str) -> Path:
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / Path(urlparse(address).path).name
    if not target.exists():
        try:
            torch.hub.download_url_to_file(address, str(target))
        except OSError as error:
            raise UnsafeCheckpointError(f'checkpoint {address!r} could not be downloaded: {error}') from error
    return target
