"""Checkpoints come from strangers: read them as data, so that none of them runs code.

MMEngine's loader tries ``weights_only=True`` and falls back to unpickling, which runs whatever the file says; its
loader for downloads does not even try. :func:`plain_checkpoints` makes every ``torch.load`` of the process read plain
data, whichever key of a config, scheme or toolbox leads to it. :func:`check_config_checkpoints` opens what a run is
known to load before the run begins, so that a refusal names the file and comes at once.
"""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import find_latest_checkpoint

from mmsharp.errors import MmsharpError
from mmsharp.files import write_text

_FORCED, _FORBIDDEN = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'
_SCHEME = re.compile(r'[a-zA-Z0-9+.-]+://|(\S+:)?(s3|petrel)://')
_WEB = ('http://', 'https://')
_WEIGHTS = ('.pth', '.pt', '.ckpt', '.bin')


class UnsafeCheckpointError(MmsharpError):
    """A checkpoint that is missing, broken, or holds more than tensors and plain data."""


def allowed_globals() -> list[Any]:
    """What a checkpoint may name beside tensors and containers: NumPy arrays and MMEngine's log buffers.

    MMEngine's buffers name their own methods through ``getattr``, for which a function stands in that gives nothing
    else. (MMEngine's own list lets ``getattr`` itself in; original releases have no list.)
    """
    core = np._core if hasattr(np, '_core') else np.core
    numbers = (np.dtype(kind) for kind in ('bool', 'int32', 'int64', 'uint8', 'uint32', 'float32', 'float64'))
    plain = (slice, HistoryBuffer, np.ndarray, np.dtype)
    # Pairs with their names: MMEngine's loader takes its own entries off torch's list again, and would take ours too.
    named = [(part, f'{part.__module__}.{part.__qualname__}') for part in (*plain, *map(type, numbers))]
    # NumPy 1 and 2 write the same functions under two names.
    aliases = [
        (part, f'numpy.{package}.multiarray.{part.__name__}')
        for part in (core.multiarray._reconstruct, core.multiarray.scalar)
        for package in ('core', '_core')
    ]
    return [(_buffer_method, 'builtins.getattr'), *named, *aliases]


@contextmanager
def _allowing(names: list[Any]) -> Iterator[None]:
    """Torch's ``safe_globals``, which forgets on leaving what was allowed before, with a memory."""
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals(names)
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _buffer_method(owner: Any, name: Any) -> Any:
    if owner is not HistoryBuffer or not isinstance(name, str) or name.startswith('_'):
        raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r}) is not allowed')
    return getattr(HistoryBuffer, name)


@contextmanager
def plain_checkpoints() -> Iterator[None]:
    """Inside, every ``torch.load`` of this process reads plain data or refuses, also where it is asked to unpickle.

    Raises:
        UnsafeCheckpointError: In place of torch's error, when a checkpoint inside would have to be unpickled.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> torch.save(dict(code=print), file)
        >>> with plain_checkpoints():
        ...     torch.load(io.BytesIO(file.getvalue()), weights_only=False)
        Traceback (most recent call last):
        mmsharp.engine.checkpoints.safe_checkpoint.UnsafeCheckpointError: a checkpoint that the config or ... names ...
    """
    before = {name: os.environ.pop(name, None) for name in (_FORCED, _FORBIDDEN)}
    os.environ[_FORCED] = '1'
    try:
        with _allowing(allowed_globals()):
            yield
    except pickle.UnpicklingError as error:
        raise UnsafeCheckpointError(
            'a checkpoint that the config or the model names cannot be read as plain tensors and data '
            f'({_reason(error)}); loading it would run code that it contains, and the last lines of the log name it. '
            "If you trust its origin, load it once yourself and save its 'state_dict' alone"
        ) from error
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def check_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Open a checkpoint with ``weights_only=True`` under :func:`allowed_globals` and return it, on the CPU.

    Args:
        path: As :func:`local_checkpoint`.

    Raises:
        UnsafeCheckpointError: The file is missing, truncated, not a checkpoint, or would have to be unpickled.

    Example:
        >>> check_checkpoint('missing.pth')
        Traceback (most recent call last):
        mmsharp.engine.checkpoints.safe_checkpoint.UnsafeCheckpointError: checkpoint 'missing.pth' does not exist; ...
    """
    local = local_checkpoint(path)
    try:
        with warnings.catch_warnings(), _allowing(allowed_globals()):
            warnings.simplefilter('ignore')
            checkpoint = torch.load(local, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeCheckpointError(
            f'checkpoint {str(path)!r} cannot be read as plain tensors and data ({_reason(error)}); loading it would '
            "run code that it contains. If you trust its origin, load it once yourself and save its 'state_dict' alone"
        ) from error
    except Exception as error:  # damaged bytes make the reader fail in any way
        raise UnsafeCheckpointError(
            f'checkpoint {str(path)!r} ({local.stat().st_size} bytes) is damaged or no checkpoint ({_reason(error)}); '
            'copy or download it again, or give an earlier one'
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise UnsafeCheckpointError(
            f'checkpoint {str(path)!r} holds a {type(checkpoint).__name__}; expected a dict with a `state_dict`'
        )
    return dict(checkpoint)


def local_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The file of a checkpoint on this machine.

    Args:
        path: A local file, or an ``http(s)`` address, which is downloaded to torch's hub cache unless it is there: the
            place from which MMEngine then loads the very same file.

    Raises:
        UnsafeCheckpointError: There is no such file, or it cannot be downloaded.

    Example:
        >>> local_checkpoint(__file__).name
        'safe_checkpoint.py'
    """
    local = _downloaded(str(path)) if is_address(path) else Path(path).expanduser()
    if not local.is_file():
        raise UnsafeCheckpointError(f'checkpoint {str(path)!r} does not exist; give the path of a .pth file')
    return local


def is_address(path: str | os.PathLike[str]) -> bool:
    """Whether a checkpoint is given by its ``http(s)`` address.

    Example:
        >>> is_address('https://example.org/a.pth'), is_address(Path('a.pth'))
        (True, False)
    """
    return os.fspath(path).startswith(_WEB)


def check_config_checkpoints(
    load_from: str | None, resume: bool | str, work_dir: str, model: Mapping[str, Any] | None = None
) -> None:
    """Check the checkpoints that a run is known to load: what is resumed, ``load_from``, and files the model names.

    Names under a scheme of MMEngine's (``torchvision://``, ``open-mmlab://`` ...) are known only to its loaders and are
    left to :func:`plain_checkpoints`.

    Args:
        load_from: As in the config.
        resume: As in the config: true finds the latest checkpoint of ``work_dir`` unless ``load_from`` is given.
        work_dir: The folder of the run.
        model: The config of the model, searched for ``init_cfg=dict(type='Pretrained', checkpoint=...)`` and for other
            keys that name an existing file of weights, such as a teacher's.

    Raises:
        UnsafeCheckpointError: One of them is refused.
    """
    candidates = [load_from] if load_from else []
    if resume is True and not load_from and os.path.isdir(work_dir):
        candidates.append(find_latest_checkpoint(work_dir))
    elif isinstance(resume, str):
        candidates.append(resume)
    candidates.extend(_named_by(model or {}))
    for path in candidates:
        if path and (is_address(path) or not _SCHEME.match(str(path))):
            check_checkpoint(path)


def _named_by(config: Any, key: Any = None) -> Iterator[str]:
    """Checkpoints in a model's config: all that are called so, and other files that look like it and exist."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            yield from _named_by(value, name)
    elif isinstance(config, (list, tuple)):
        for value in config:
            yield from _named_by(value)
    elif isinstance(config, str) and (
        key == 'checkpoint' or (config.endswith(_WEIGHTS) and os.path.isfile(os.path.expanduser(config)))
    ):
        yield config


def _downloaded(address: str) -> Path:
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / Path(urlparse(address).path).name
    origin = target.with_name(f'{target.name}.address')
    if target.exists() and origin.exists() and origin.read_text(encoding='utf-8') != address:
        raise UnsafeCheckpointError(
            f'checkpoint {address!r} has the name of one that was downloaded from {origin.read_text(encoding="utf-8")} '
            f'before, and torch.hub keeps one of a name; remove {target} to download this one'
        )
    if not target.exists():
        try:
            torch.hub.download_url_to_file(address, str(target))
        except OSError as error:
            raise UnsafeCheckpointError(f'checkpoint {address!r} could not be downloaded: {error}') from error
        write_text(origin, address)
    return target


def _reason(error: Exception) -> str:
    """The telling line of an error; torch's begins with advice to turn the protection off."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if 'GLOBAL' in line or 'Unsupported' in line or 'not allowed' in line]
    return (telling or lines or [type(error).__name__])[0].split(' was not an allowed')[0]
