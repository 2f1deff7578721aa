"""One cell of an experiment, what all have in common, and the config that a cell trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .methods import LONGER, METHODS, MIXED


@dataclass(frozen=True)
class Run:
    """One cell of an experiment."""

    method: str
    criterion: str
    budget: float
    seed: int

    @property
    def folder(self) -> str:
        """A name for its folder."""
        method = ''.join(letter if letter.isalnum() else '_' for letter in self.method)
        return f'{method}-{self.criterion}-{self.budget}-{self.seed}'


def grid(methods: Iterable[str], criteria: Iterable[str], budgets: Iterable[float], seeds: Iterable[int]) -> list[Run]:
    """All combinations, seed by seed, so that a record that was cut off compares what it has.

    Example:
        >>> [run.method for run in grid(['SGD', 'SAM'], ['Magnitude'], [0.4], [0])]
        ['SGD', 'SAM']
    """
    methods, criteria, budgets = list(methods), list(criteria), list(budgets)
    return [
        Run(method, criterion, budget, seed)
        for seed in seeds
        for budget in budgets
        for criterion in criteria
        for method in methods
    ]


@dataclass(frozen=True)
class Setting:
    """What all runs of an experiment have in common.

    Args:
        base: Config of the baseline, which prunes and trains with SGD.
        options: Changes of it, for everybody.
        metric: What is P.
        data: What is trained on, for the reader.
        methods: What each method changes, by its name.
        severities: Of the corruptions; 0 is the clean pass.
        mixed: Whether to train in mixed precision, which on CPUs is bfloat16.
        tree: Whether to corrupt the test images once for all runs, to PNG files, which hold the very pixels: saves
            small networks most of their evaluation, and takes too much room for large images.
        times: How many times as long as the baseline's config all trainings are, in every phase.
        same: What else every line of a record has to have, such as the number of images; it is written to each.
    """

    base: Path
    options: Mapping[str, Any]
    metric: str
    data: str = ''
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: METHODS)
    severities: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    mixed: bool = False
    tree: bool = False
    times: int = 1
    same: Mapping[str, Any] = field(default_factory=dict)


def configure(setting: Setting, run: Run) -> Config:
    """The config of a run: the baseline's, the options of everybody, those of the method, the budget and the seed.

    The criterion is the run's; whatever else the pruner is given stays.
    """
    config = Config.fromfile(setting.base)
    config.merge_from_dict(dict(setting.options))
    config.merge_from_dict(dict(setting.methods[run.method]))
    hook = config.default_hooks.pruning
    hook.budget = dict(params=run.budget)
    hook.pruner = {
        **(hook.get('pruner') or {}),
        'type': 'mmsharp.ChannelPruner',
        'criterion': dict(type=run.criterion),
    }
    settle(config, setting, run)
    config.default_hooks.checkpoint.max_keep_ckpts = -1  # sharpness is measured from phase to phase
    lengthen(config, setting.times * (2 if run.method == LONGER else 1))
    return config


def settle(config: Config, setting: Setting, run: Run) -> Config:
    """What is the same for all methods: precision, seed, what is resumed from, memory format; in place."""
    if setting.mixed:
        config.optim_wrapper.type = MIXED[config.optim_wrapper.get('type', 'OptimWrapper')]
    config.randomness = dict(seed=run.seed)
    config.default_hooks.checkpoint = dict(config.default_hooks.get('checkpoint', {}), interval=1, max_keep_ckpts=1)
    config.default_hooks.memory_format = dict(type='mmsharp.ChannelsLastHook')
    config.default_hooks.rng_state = dict(type='mmsharp.RNGStateHook')  # go on with those of the main process
    config.robustness.pop('hook', None)  # what it costs is no part of the training that is compared
    return config


def lengthen(config: Config, times: int = 2) -> None:
    """So many times the epochs, every phase and the decay of the learning rate with them, in place."""
    config.train_cfg.max_epochs *= times
    for name in ('warmup', 'pruning'):
        if isinstance(config.default_hooks.pruning.get(name), int):
            config.default_hooks.pruning[name] *= times
    for scheduler in config.param_scheduler:
        for key in ('T_max', 'begin', 'end'):
            if scheduler.get('by_epoch', True) and key in scheduler:
                scheduler[key] *= times
        if 'milestones' in scheduler:
            scheduler['milestones'] = [times * epoch for epoch in scheduler['milestones']]
