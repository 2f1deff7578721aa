"""The files in ``configs/``, and what the names of their folders and files promise."""

import copy
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmsharp.engine.configs.config import load_config

CONFIGS = Path(__file__).parents[1] / 'configs'
WHOLE = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
DENSE = [name for name in WHOLE if name.startswith('dense/')]
AUGMENTED = [name for name in WHOLE if Path(name).stem.endswith('_aug')]
SEARCH_FOLDERS = ('csam', 'hydra', 'sam', 'sam_weight_magnitude', 'weight_magnitude', 'weight_magnitude_sam')
"""C-SAM and what it is compared with on single weights; laws of their own are in test_configs/test_mask_search.py."""
SEARCHED = [name for name in WHOLE if name.startswith(tuple(f'{folder}/' for folder in SEARCH_FOLDERS))]
PRUNED = [name for name in WHOLE if name not in {*DENSE, *AUGMENTED, *SEARCHED}]
ONLY_SEARCHED = ('flowers102', 'celebahq', 'googlenet')
"""Networks and data of C-SAM's paper, which no other method has configs for."""
VARIANT = re.compile(r'_(?:(2x)|(paper)|(params|latency|macs)(\d\d))$')
SCRATCH = '_scratch'


class Method(NamedTuple):
    """What a folder's name stands for: the scores that prune, the ascent that trains, and the hook, if of its own."""

    criterion: str | None = None
    ascent: str | None = None
    allocation: str | None = None
    hook: str | None = None


METHODS = {
    'magnitude': Method(),
    'magnitude_sam': Method(ascent='SAM'),
    'magnitude_asam': Method(ascent='ASAM'),
    'adasap': Method(ascent='AdaSAP'),
    'taylor': Method('mmsharp.Taylor'),
    'taylor_sam': Method('mmsharp.Taylor', ascent='SAM'),
    'taylor_asam': Method('mmsharp.Taylor', ascent='ASAM'),
    'taylor_adasap': Method('mmsharp.Taylor', ascent='AdaSAP'),
    'halp': Method('mmsharp.Taylor', allocation='mmsharp.Knapsack'),
    'psap': Method(hook='mmsharp.PSAPHook'),
    'psap_adasap': Method(ascent='AdaSAP', hook='mmsharp.PSAPHook'),
}
GRID = [folder for folder, method in METHODS.items() if not method.hook and not method.allocation]
"""Two criteria by four optimizers, in the baseline's phases."""


class Name(NamedTuple):
    """``{folder}/{network}_{data set}[_{variant}][_scratch].py``, taken apart."""

    folder: str
    ordinary: str
    twice: bool
    budget: dict[str, float]
    scratch: bool = False
    paper: bool = False

    @classmethod
    def of(cls, name: str) -> 'Name':
        """The parts of a config's path in ``configs/``; without a variant it prunes to 0.40 of the parameters."""
        path = Path(name)
        path = path.with_name(path.name.replace('_aug.py', '.py'))
        stem, scratch = path.stem.removesuffix(SCRATCH), path.stem.endswith(SCRATCH)
        found = VARIANT.search(stem)
        if not found:
            return cls(path.parent.name, f'{stem}.py', False, dict(params=0.4), scratch)
        budget = {found[3]: int(found[4]) / 100} if found[3] else dict(params=0.4)
        ordinary = stem.removesuffix(found[0]) + '.py'
        return cls(path.parent.name, ordinary, bool(found[1]), budget, scratch, bool(found[2]))

    @property
    def method(self) -> Method:
        """What the folder stands for; AdaSAP meets a budget of latency as HALP does."""
        method = METHODS[self.folder]
        return METHODS['halp']._replace(ascent=method.ascent) if 'latency' in self.budget else method


IN_GRID = sorted(
    {Name.of(name).ordinary for name in PRUNED if Name.of(name).folder in set(GRID) - {'magnitude', 'adasap'}}
)
"""The networks that have more of the grid than what every network has, and then all of it."""


@cache
def _read(path: Path) -> Config:
    return load_config(path)


def load(name: str | Path) -> Config:
    """A config of the folder, or of a path, with its toolbox's scope; a copy of its own."""
    config = copy.deepcopy(_read(CONFIGS / name))
    pytest.importorskip(config.default_scope)
    init_default_scope(config.default_scope)
    return config


def dense_of(name: str) -> str:
    """The config that trains the network which this one prunes."""
    return f'dense/{Name.of(name).ordinary}'


def sibling_of(name: str) -> str | None:
    """The config of the same folder that trains alike by its name, but for budget, length or augmentation.

    ``None`` for the first of them, which stands for the others.
    """

    def kin(other: str) -> tuple[object, ...]:
        parts = Name.of(other)
        return (*parts[:2], parts.scratch, parts.paper, 'latency' in parts.budget)

    first = min((other for other in WHOLE if kin(other) == kin(name)), key=lambda other: (len(other), other))
    return None if first == name else first
