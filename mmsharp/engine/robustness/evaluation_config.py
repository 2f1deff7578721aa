"""The config of an evaluation that builds once, downloads nothing and writes little."""

import copy
import itertools
import os
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mmsharp.engine.configs.config import settle_dataloaders, without_training
from mmsharp.engine.configs.tta import augment_tests
from mmsharp.errors import MmsharpError
from mmsharp.models import without_downloads

STANDARD_HOOKS = ('timer', 'logger', 'param_scheduler', 'checkpoint')
_RUNS = itertools.count()


def prepare_config(cfg: Config, work_dir: str | os.PathLike[str], tta: bool = False) -> Config:
    """Return a copy of a config that builds the model and its test loop, writes little and downloads nothing.

    Raises:
        MmsharpError: If the config has no test data, evaluator or loop, or no test-time augmentation that is asked for.
    """
    cfg = without_training(cfg)
    for key in ('test_dataloader', 'test_evaluator'):
        if cfg.get(key) is None:
            raise MmsharpError(f'the config defines no {key}, so there is nothing to evaluate; add one')
    if cfg.get('test_cfg') is None:
        cfg.test_cfg = ConfigDict()
    settle_dataloaders(cfg)
    if tta:
        augment_tests(cfg)
    loader = cfg.test_dataloader
    if loader.get('num_workers', 0) > 0:
        loader.persistent_workers = True
    cfg.model = without_downloads(cfg.model)
    cfg.work_dir = str(Path(work_dir) / 'logs')
    cfg.launcher, cfg.resume, cfg.log_level = 'none', False, 'WARNING'
    cfg.visualizer = ConfigDict(type='mmengine.Visualizer')
    hooks = copy.deepcopy(cfg.get('default_hooks') or ConfigDict())
    hooks.pop('visualization', None)
    cfg.default_hooks = ConfigDict({**hooks, **dict.fromkeys(STANDARD_HOOKS)})
    if not cfg.get('randomness'):
        cfg.randomness = ConfigDict(seed=0)
    # One process may evaluate several models within a second, which is the resolution of MMEngine's run names.
    cfg.experiment_name = f'test_robust_{os.getpid()}_{next(_RUNS)}'
    return cfg
