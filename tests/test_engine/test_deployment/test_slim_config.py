"""The config that is written builds the slim model anywhere, and prunes no more."""

import copy
from pathlib import Path

import pytest
import torch
from deployed_training import load, relative
from mmengine.config import Config

from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.configs.config import load_config
from mmsharp.engine.deployment.deploy import deploy
from mmsharp.engine.deployment.slim_config import slim_config
from mmsharp.engine.hooks import AdaSAPHook, PruningHook
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.errors import MmsharpError
from mmsharp.pruning import ChannelPruner, count_parameters, tensor_forward


def test_the_written_config_trains_no_more_pruning(trained, tmp_path):
    """Hook, starting point and work directory are gone, the rest stays; the argument is not changed."""
    before = copy.deepcopy(trained.config._cfg_dict)
    config = copy.deepcopy(trained.config)
    config.load_from = 'dense.pth'
    deploy(config, trained.path(4), tmp_path, repeats=1)
    written = Config.fromfile(tmp_path / 'config.py')
    assert 'pruning' not in written.default_hooks
    assert written.load_from is None
    assert 'work_dir' not in written
    assert 'mmsharp' in written.custom_imports.imports
    assert written.train_dataloader == trained.config.train_dataloader
    assert trained.config._cfg_dict == before
    assert config.load_from == 'dense.pth'


def test_no_weights_of_an_init_cfg_are_loaded(trained, tmp_path):
    """Neither while deploying nor by the written config."""
    config = copy.deepcopy(trained.config)
    config.model.init_cfg = dict(type='Pretrained', checkpoint='https://invalid.invalid/dense.pth')
    deploy(config, trained.path(4), tmp_path, repeats=1)
    assert 'invalid.invalid' not in (tmp_path / 'config.py').read_text()


def test_the_written_config_does_not_go_with_the_first_training(trained, tmp_path):
    """Its network is slim already; a checkpoint that still has to be cut was not written for it."""
    deploy(trained.config, trained.path(2), tmp_path / 'slim', repeats=1)
    with pytest.raises(MmsharpError, match=r'describes a slim model already.*ordinary config'):
        deploy(Config.fromfile(tmp_path / 'slim/config.py'), trained.path(4), tmp_path / 'again', repeats=1)
    assert not (tmp_path / 'again').exists()


@pytest.mark.parametrize(
    ('imports', 'expected'),
    [('mmsharp', ['mmsharp']), ('json', ['json', 'mmsharp']), (['json', 'mmsharp'], ['json', 'mmsharp'])],
)
def test_the_config_s_own_imports_stay(trained, imports, expected):
    """One name is not a list of letters."""
    config = copy.deepcopy(trained.config)
    config.custom_imports = dict(imports=imports, allow_failed_imports=True)
    assert slim_config(config).custom_imports == dict(imports=expected, allow_failed_imports=True)


@pytest.mark.parametrize('kind', ['mmsharp.PruningHook', 'PruningHook', PruningHook, AdaSAPHook, 'mmsharp.AdaSAPHook'])
def test_no_pruning_hook_stays(trained, kind):
    """Neither among the default hooks nor among the custom ones; the others do."""
    config = copy.deepcopy(trained.config)
    other = dict(type='EMAHook')
    config.default_hooks = dict(pruning=dict(type=kind), ema=other, logger=None)
    config.custom_hooks = [dict(type=kind), other]
    slim = slim_config(config)
    assert slim.default_hooks == dict(ema=other, logger=None)
    assert slim.custom_hooks == [other]


PARTS = """
import torch
from mmengine.model import BaseModel
from torch import nn


class Network(BaseModel):
    def __init__(self, width, norm, act, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        kinds = {'torch.nn.BatchNorm2d': nn.BatchNorm2d, 'torch.nn.ReLU': nn.ReLU}
        norm, act = (kinds.get(part['type'], part['type']) for part in (norm, act))
        first = (nn.Conv2d(3, width, 3, padding=1), norm(width), act())
        second = (nn.Conv2d(width, width, 3, padding=1), norm(width), act())
        self.features = nn.Sequential(*first, *second)
        self.head = nn.Linear(width, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.head(self.features(inputs).mean(dim=(2, 3)))
"""


BASE = """
import torch.nn as nn
from mmengine.dataset import default_collate
from mmengine.model import PretrainedInit
from PACKAGE.parts import Network

default_scope = None
norm = nn.BatchNorm2d
model = dict(type=Network, width=12, norm=dict(type=norm), act=dict(type=nn.ReLU))
model.update(init_cfg=dict(type=PretrainedInit, checkpoint='https://invalid.invalid/dense.pth'))
train_dataloader = dict(batch_size=2, collate_fn=dict(type=default_collate))
"""


TOP = """
import os
from mmengine.config import read_base

with read_base():
    from .base import *

from mmengine.hooks import EMAHook
from mmsharp.engine.hooks import AdaSAPHook, PruningHook


def half(number):
    return number // 2


model.update(width=half(32))
default_hooks = dict(pruning=dict(type=PruningHook, budget=dict(params=0.5)))
custom_hooks = [dict(type=EMAHook), dict(type=AdaSAPHook)]
custom_imports = dict(imports='PACKAGE.parts')
"""


@pytest.fixture
def lazy_config(tmp_path, monkeypatch) -> Path:
    """A pure-Python config of two files, and the package whose classes it imports."""
    package = f'package_{tmp_path.name}'.replace('-', '_')
    (tmp_path / package).mkdir()
    (tmp_path / package / '__init__.py').write_text('')
    (tmp_path / package / 'parts.py').write_text(PARTS)
    (tmp_path / 'configs').mkdir()
    for name, text in (('base', BASE), ('top', TOP)):
        (tmp_path / 'configs' / f'{name}.py').write_text(text.replace('PACKAGE', package))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / 'configs/top.py'


def test_a_pure_python_config_is_deployed(lazy_config, images, tmp_path):
    """What comes back is complete, imports what it names, and computes what was pruned."""
    config = load_config(lazy_config)
    before = config.to_dict()
    torch.manual_seed(0)
    masked = build_model(config)
    forward = tensor_forward(images)
    pruner = ChannelPruner(budget=dict(params=0.5), round_to=1)
    pruner.attach(masked, forward)
    pruner.update(1.0)
    pruner.apply_()
    state = PruningState().with_input_shape((3, 8, 8)).masked().with_recipe(pruner.recipe())
    torch.save(dict(state_dict=masked.state_dict(), mmsharp=state.to_dict()), tmp_path / 'epoch_1.pth')
    deploy(config, str(tmp_path / 'epoch_1.pth'), tmp_path / 'slim', repeats=1)
    written = load_config(tmp_path / 'slim/config.py')
    made = {'model', 'train_dataloader', 'norm', 'default_scope', 'custom_imports', 'custom_hooks', 'default_hooks'}
    assert set(written) == made | {'load_from', 'resume'}
    assert written.model.base.endswith('.parts.Network')
    assert written.model.width == 16
    assert written.model.init_cfg is None
    assert written.train_dataloader == dict(batch_size=2, collate_fn=dict(type='mmengine.dataset.default_collate'))
    assert written.custom_hooks == [dict(type='mmengine.hooks.EMAHook')]
    assert 'pruning' not in written.default_hooks
    assert config.to_dict() == before
    slim = load(tmp_path / 'slim')
    assert count_parameters(slim) <= 0.5 * count_parameters(masked)
    assert relative(masked, slim, images) < 1e-5
