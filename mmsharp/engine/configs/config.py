"""Configs as the tools read them: loaded, overridden and checked before anything expensive begins."""

from __future__ import annotations

import atexit
import copy
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from mmsharp.engine.checkpoints.resumable import newest_resumable
from mmsharp.engine.configs.config_printer import import_config_printer
from mmsharp.engine.distributed.process_group import join, leave
from mmsharp.errors import MmsharpError, one_line
from mmsharp.type_names import type_name

SYNC_BN = ('SyncBN', 'MMSyncBN', 'SyncBatchNorm')
"""The names under which it is registered, and that of the classes of torch and mmcv."""
DOWNLOADED = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')
"""The data sets of mmpretrain that fill their folder themselves, unless they are told ``download=False``."""
WITHOUT_FILES_BESIDE = ('ImageNetV2',)
"""Data sets that are their ``data_root`` alone; the config of the set whose place they take may name more."""
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def load_config(path: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file and merge the overrides of ``--cfg-options``.

    Raises:
        MmsharpError: The file is missing, is no config, raises an error, or names a base or a module that does not
            exist.

    Example:
        >>> load_config('missing.py')
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: config 'missing.py' does not exist; give the path of a .py, .json or .yaml file
    """
    if not os.path.isfile(path):
        raise MmsharpError(f'config {os.fspath(path)!r} does not exist; give the path of a .py, .json or .yaml file')
    try:
        config = read_config(path)
        _import_lazy_names([config[key] for key in config if key not in config._imported_names])
    except Exception as error:  # a config is code of the user's own and may raise anything
        raise MmsharpError(f'config {os.fspath(path)!r} cannot be read: {one_line(error)}') from error
    if not isinstance(config.get('model'), Mapping):
        raise MmsharpError(f'config {os.fspath(path)!r} defines no `model`; expected a config of mmdet or mmpretrain')
    if options:
        merge_options(config, options)
    return config


def read_config(path: str | os.PathLike[str]) -> Config:
    """Read a text config also where one of its bases imports something, which MMEngine takes for a pure-Python config.

    mmpretrain's RepLKNet is packaged like that.
    """
    try:
        return Config.fromfile(path)
    except RuntimeError as error:
        if 'inheritance chain' not in str(error):
            raise
        return Config.fromfile(path, lazy_import=False)


def merge_options(config: Config, options: Mapping[str, Any]) -> None:
    """Merge the overrides of ``--cfg-options`` into a config.

    Raises:
        MmsharpError: They do not fit the config.
    """
    try:
        config.merge_from_dict(dict(options))
    except (KeyError, TypeError, IndexError, AssertionError) as error:
        raise MmsharpError(
            f'--cfg-options {dict(options)!r} do not fit {config.filename or "the config"!r}: {one_line(error)}'
        ) from error


def _import_lazy_names(value: Any) -> None:
    """Import what a pure-Python config names, which MMEngine would put off until a part is built."""
    if isinstance(value, dict):
        for item in value.values():
            _import_lazy_names(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _import_lazy_names(item)


def settle_work_dir(config: Config, path: str | os.PathLike[str], work_dir: str | None) -> None:
    """Where results go: the command line, else the config, else ``work_dirs/<name of the config>``."""
    if work_dir is not None:
        config.work_dir = work_dir
    elif config.get('work_dir') is None:
        config.work_dir = os.path.join('work_dirs', Path(path).stem)
    try:
        os.makedirs(config.work_dir, exist_ok=True)
    except OSError as error:
        raise MmsharpError(f'work directory {config.work_dir!r} cannot be made: {error}; give another') from error


def settle_launcher(config: Config, launcher: str) -> None:
    """Record the launcher; without a GPU, join the processes through gloo, which MMEngine's own start would not.

    MMEngine selects a GPU before it joins, and leaves a process group alone that is there already. On CPUs DDP is told
    of no device, and SyncBN, which raises there, becomes BN with a warning.

    Raises:
        MmsharpError: The launcher's environment is missing, or it needs a GPU.
    """
    config.launcher = launcher
    if launcher == 'none':
        return
    import_config_printer()
    if torch.cuda.is_available():
        return
    if not torch.distributed.is_initialized():
        join(launcher)
        atexit.register(leave)
    wrapper = config.get('model_wrapper_cfg') or ConfigDict(type='MMDistributedDataParallel')
    wrapper.setdefault('find_unused_parameters', config.get('find_unused_parameters', False))
    wrapper.setdefault('broadcast_buffers', False)
    wrapper['device_ids'] = None
    config.model_wrapper_cfg = wrapper
    if replace_sync_bn(config.model):
        print_log('SyncBN does not run on CPUs and becomes BN', 'current', logging.WARNING)


def replace_sync_bn(value: Any) -> bool:
    """Turn every SyncBN of a model config, given by name or as a class, into BN; whether there was one."""
    found = False
    if isinstance(value, dict):
        if type_name(value) in SYNC_BN:
            value['type'] = 'BN'
            found = True
        found |= any([replace_sync_bn(item) for item in value.values()])
    elif isinstance(value, (list, tuple)):
        found = any([replace_sync_bn(item) for item in value])
    return found


def settle_dataloaders(config: Config) -> None:
    """Give mmpretrain's data loaders the defaults that its own tools give them."""
    if config.get('default_scope') != 'mmpretrain':
        return
    for name in LOADERS:
        loader = config.get(name)
        if loader is not None:
            loader.setdefault('collate_fn', dict(type='default_collate'))
            loader.setdefault('pin_memory', torch.cuda.is_available())
            loader.setdefault('persistent_workers', loader.get('num_workers', 0) > 0)


def settle_amp(config: Config) -> None:
    """Train in mixed precision, and keep sharpness awareness where the config has it.

    Without a GPU, mmsharp's wrappers train in bfloat16, where MMEngine's own would refuse.

    Raises:
        MmsharpError: The mixed-precision kin of the wrapper is not known.
    """
    wrapper = config.setdefault('optim_wrapper', ConfigDict())
    name = type_name(wrapper) or 'OptimWrapper'
    if name in ('SAMOptimWrapper', 'AmpSAMOptimWrapper'):
        wrapper.type = 'mmsharp.AmpSAMOptimWrapper'
    elif name in ('OptimWrapper', 'AmpOptimWrapper'):
        ours = _is_ours(wrapper.get('type')) or not torch.cuda.is_available()
        wrapper.type = 'mmsharp.AmpOptimWrapper' if ours else 'AmpOptimWrapper'
    else:
        raise MmsharpError(
            '--amp knows OptimWrapper, mmsharp.SAMOptimWrapper and their mixed-precision kin, but optim_wrapper.type '
            f'is {name!r}; name its mixed-precision kin in the config instead'
        )
    wrapper.setdefault('loss_scale', 'dynamic')


def _is_ours(kind: Any) -> bool:
    """Whether a type, as text or class, is of this package."""
    name = kind if isinstance(kind, str) else getattr(kind, '__module__', '')
    return str(name).partition('.')[0] == 'mmsharp'


def settle_resume(config: Config, resume: str | None) -> None:
    """``auto`` goes on from the latest whole checkpoint of the work directory; a path goes on from that file.

    ``resume=True`` in a config without ``load_from`` is ``auto``. Where that finds no checkpoint yet, training begins
    as without the flag, from the config's ``load_from``: so the same command starts a run and continues it, whenever it
    was killed. (The toolboxes' own tools drop ``load_from`` then, and stop at what a kill has torn.)

    Raises:
        UnsafeCheckpointError: As :func:`mmsharp.engine.checkpoints.resumable.newest_resumable`.
    """
    if resume is None and config.get('resume') is True and not config.get('load_from'):
        resume = 'auto'
    if resume == 'auto':
        found = newest_resumable(config.work_dir)
        config.resume = found is not None
        if found is not None:
            config.load_from = found
    elif resume is not None:
        config.resume = True
        config.load_from = resume


def settle_auto_scale_lr(config: Config) -> None:
    """Turn on linear scaling of the learning rate.

    Raises:
        MmsharpError: The config does not say for which batch size its learning rate was chosen.
    """
    scaling = config.get('auto_scale_lr')
    if not scaling or 'base_batch_size' not in scaling:
        raise MmsharpError(
            '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config, the batch size over all GPUs '
            'for which its learning rate was chosen'
        )
    scaling.enable = True


def check_data(config: Mapping[str, Any], loaders: tuple[str, ...] = LOADERS) -> None:
    """Refuse missing data before the model is built, naming the folder or file and the place in the config.

    Addresses of remote storage are left to the data set, and so is what a data set downloads when it is missing.

    Raises:
        MmsharpError: A ``data_root``, or an ``ann_file`` or ``data_prefix`` under it, does not exist.

    Example:
        >>> check_data(dict(test_dataloader=dict(dataset=dict(type='VOCDataset', data_root='nowhere/'))))
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: test_dataloader.dataset.data_root='nowhere/' does not exist; ...
    """
    for name in loaders:
        for place, dataset in _datasets(config.get(name) or {}, name):
            root = dataset.get('data_root') or ''
            if not isinstance(root, str) or '://' in root or _downloads(dataset):
                continue
            if root and not os.path.isdir(root):
                raise MmsharpError(_missing(f'{place}.data_root', root))
            for key, path in _paths_under_root(dataset):
                if not os.path.exists(os.path.join(root, os.path.expanduser(path))):
                    raise MmsharpError(_missing(f'{place}.{key}', path, root))


def _missing(name: str, value: str, root: str = '') -> str:
    where = f' under {root!r}' if root else ''
    return f'{name}={value!r} does not exist{where}; put the data there or change it with --cfg-options {name}=...'


def _downloads(dataset: Mapping[str, Any]) -> bool:
    return type_name(dataset) in DOWNLOADED and bool(dataset.get('download', True))


def _paths_under_root(dataset: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys and values of a data set's annotation file and folders, where they name something local."""
    if type_name(dataset) in WITHOUT_FILES_BESIDE:
        return
    prefixes = dataset.get('data_prefix')
    named = [('ann_file', dataset.get('ann_file'))]
    if isinstance(prefixes, Mapping):
        named += [(f'data_prefix.{key}', prefix) for key, prefix in prefixes.items()]
    else:
        named.append(('data_prefix', prefixes))
    for key, value in named:
        if isinstance(value, str) and value and '://' not in value:
            yield key, value


def _datasets(value: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        if 'type' in value and not {'data_root', 'ann_file', 'data_prefix'}.isdisjoint(value):
            yield place, value
        for key, item in value.items():
            yield from _datasets(item, f'{place}.{key}')
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            yield from _datasets(item, f'{place}.{position}')


def without_training(config: Config) -> Config:
    """A copy of a config from which the tools that do not train have taken what only training needs.

    Pruning hooks stay: they give the model the shapes of a slim checkpoint.
    """
    config = copy.deepcopy(config)
    for key in ('train_cfg', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr'):
        config[key] = None
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        config[key] = None
    return config
