"""What the values of a robustness evaluation depend on; a results folder holds values of one identity only."""

import copy
import hashlib
import importlib
import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmsharp.version import __version__

DECISIVE_KEYS = ('model', 'data_preprocessor', 'test_dataloader', 'test_evaluator', 'test_cfg', 'default_scope')
LOADER_KEYS_WITHOUT_EFFECT = ('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor')
DISTRIBUTIONS = ('imagecorruptions-imaug', 'imagecorruptions')
MODULES = ('torch', 'numpy', 'scipy', 'PIL', 'cv2', 'skimage', 'numba', 'mmengine', 'mmcv')


def config_sha256(cfg: Config) -> str:
    """Hash the parts of a config that decide the values: model, test data, evaluator, loop, scope.

    How many workers load the data, training settings and folders for output are left out.

    Example:
        >>> base = dict(model=dict(type='RetinaNet'), test_dataloader=dict(batch_size=1, num_workers=2))
        >>> more = dict(model=dict(type='RetinaNet'), test_dataloader=dict(batch_size=1, num_workers=4), work_dir='x')
        >>> config_sha256(Config(base)) == config_sha256(Config(more))
        True
    """
    decisive = {key: copy.deepcopy(cfg.get(key)) for key in DECISIVE_KEYS}
    loader = decisive['test_dataloader']
    if isinstance(loader, dict):
        for key in LOADER_KEYS_WITHOUT_EFFECT:
            loader.pop(key, None)
    model = decisive['model']
    recipe = model.get('recipe') if isinstance(model, dict) else None
    if isinstance(recipe, str) and os.path.isfile(recipe):
        model['recipe'] = file_sha256(recipe)  # its content decides, wherever the folder of a slim model stands
    text = json.dumps(decisive, sort_keys=True, default=_name)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Hash a file's content."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def versions(scope: str | None = None) -> dict[str, str]:
    """Versions of mmsharp, of the libraries that decide pixels, and of the toolbox that is the config's scope.

    Example:
        >>> versions()['mmsharp'] == __version__
        True
    """
    found = {'python': '.'.join(map(str, sys.version_info[:2])), 'mmsharp': __version__}
    for name in (*MODULES, *([scope] if scope else [])):
        try:
            found[name] = str(importlib.import_module(name).__version__)
        except (ImportError, AttributeError):
            continue
    for distribution in DISTRIBUTIONS:
        try:
            found['imagecorruptions'] = importlib.metadata.version(distribution)
            break
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _name(value: Any) -> str:
    """Objects in a config, such as the classes of lazy configs, count by their qualified name."""
    if isinstance(value, type) or callable(value):
        return f'{getattr(value, "__module__", "")}.{getattr(value, "__qualname__", type(value).__name__)}'
    if isinstance(value, Path):
        return value.as_posix()
    return str(value)
