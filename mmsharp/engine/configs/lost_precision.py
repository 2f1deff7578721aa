"""Mixed precision that a config had from its base until it named our wrapper."""

from __future__ import annotations

import ast
import logging
import os
from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.utils import get_installed_path

from mmsharp.engine.configs.config import read_config
from mmsharp.type_names import type_name


def warn_of_lost_precision(config: Config) -> None:
    """Say so where our full-precision wrapper has replaced MMEngine's one for mixed precision by its type alone.

    About half of the toolboxes' configs for mixed precision have no other key by which the wrapper could notice, so the
    files are read once more, from the config down to the base that chose the precision.
    """
    if config.filename is None or type_name(config.get('optim_wrapper')) != 'SAMOptimWrapper':
        return
    base = mixed_precision_base(config.filename)
    if base is not None:
        print_log(
            f'{base!r} trains in mixed precision (AmpOptimWrapper) and this run, with SAMOptimWrapper instead, in '
            "full precision; optim_wrapper.type='mmsharp.AmpSAMOptimWrapper' or --amp keeps mixed precision",
            'current',
            logging.WARNING,
        )


def mixed_precision_base(path: str | os.PathLike[str]) -> str | None:
    """The file of a config's chain whose ``AmpOptimWrapper`` gave way to our ``SAMOptimWrapper``; ``None`` without.

    Args:
        path: A config file that can be read: a text config with ``_base_`` or a pure-Python one with ``read_base``.
    """
    name = type_name(read_config(path).get('optim_wrapper'))
    if name == 'AmpOptimWrapper':
        return os.path.normpath(path)
    if name != 'SAMOptimWrapper':
        return None
    found = (mixed_precision_base(base) for base in _bases(os.fspath(path)))
    return next((base for base in found if base is not None), None)


def _bases(path: str) -> list[str]:
    """The files that a config names as its bases, where MMEngine looks for them."""
    named = Config._get_base_files(path)
    if named or not path.endswith('.py'):
        return [Config._get_cfg_path(base, path)[0] for base in named]
    modules = Config._get_base_modules(ast.parse(Path(path).read_text(encoding='utf-8')).body)
    return [_file_of(module, path) for module in modules]


def _file_of(module: str, path: str) -> str:
    """The file of a module that is imported under ``read_base``: relative to the config, or in a package."""
    inner = module.lstrip('.')
    level = len(module) - len(inner)
    if level:
        folder = os.path.join(os.path.dirname(path), *['..'] * (level - 1))
    else:
        package, _, inner = inner.partition('.')
        folder = get_installed_path(package)
    return os.path.join(folder, *inner.split('.')) + '.py'
