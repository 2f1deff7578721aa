"""What ``tools/slim.py`` writes computes what was trained, carries nothing else, and is written whole or not at all."""

import copy
import json
import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mmsharp.engine import deployment
from mmsharp.engine.config import load_config
from mmsharp.engine.deployment import build_model, deploy, slim_config
from mmsharp.engine.hooks import AdaSAPHook, PruningHook
from mmsharp.engine.pruning_state import PruningState
from mmsharp.errors import MmsharpError
from mmsharp.pruning import ChannelPruner, count_parameters, tensor_forward

FILES = {'slim.pth', 'config.py', 'recipe.json', 'slim.json'}


@DATASETS.register_module(force=True)
class RandomImages(Dataset):
    """Twelve random images with labels, the same in every process."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        self.images = torch.randn(12, 3, 8, 8, generator=generator)
        self.labels = (self.images.mean(dim=(1, 2, 3)) > 0).long()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.images[index], data_samples=self.labels[index])


@MODELS.register_module(force=True)
class ThreeConvolutions(BaseModel):
    """A chain of convolutions with BatchNorm, and a classifier."""

    def __init__(self, width: int = 12, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg=init_cfg)
        layers: list[nn.Module] = []
        for inputs in (3, width, width):
            layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(width, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.head(self.features(inputs).mean(dim=(2, 3)))
        if mode == 'tensor':
            return scores
        return dict(loss=nn.functional.cross_entropy(scores, torch.as_tensor(data_samples)))


HOOK = dict(type='mmsharp.PruningHook', budget=dict(params=0.5), warmup=1, pruning=2, interval=1)
HOOK['pruner'] = dict(type='mmsharp.ChannelPruner', round_to=1)


def training_config(work_dir, **extra) -> Config:
    return Config(
        dict(
            model=dict(type='ThreeConvolutions'),
            work_dir=str(work_dir),
            experiment_name=str(work_dir),
            train_dataloader=dict(
                batch_size=6,
                num_workers=0,
                dataset=dict(type='RandomImages'),
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='default_collate'),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=4),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1), pruning=dict(HOOK)),
            default_scope='mmengine',
            randomness=dict(seed=0),
            log_level='WARNING',
            **extra,
        )
    )


class Trained:
    """A run with checkpoints of every phase, and the model whose weights they hold."""

    def __init__(self, folder, ema: bool) -> None:
        extra = dict(custom_hooks=[dict(type='EMAHook', momentum=0.3)]) if ema else {}
        self.config = training_config(folder, **extra)
        runner = Runner.from_cfg(copy.deepcopy(self.config))
        runner.train()
        self.folder = folder
        model = runner.model
        if ema:
            hook = next(hook for hook in runner.hooks if isinstance(hook, EMAHook))
            # When training has ended, EMAHook has put the plain weights back into the model.
            self.plain = model.eval()
            model = hook.ema_model.module
        self.model = model.eval()

    def path(self, epoch: int) -> str:
        return str(self.folder / f'epoch_{epoch}.pth')


@pytest.fixture(scope='module', params=[False, True], ids=['plain', 'ema'])
def trained(request, tmp_path_factory) -> Trained:
    return Trained(tmp_path_factory.mktemp('run'), request.param)


@pytest.fixture(scope='module')
def images() -> torch.Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def load(folder) -> nn.Module:
    """The deployed model, as anyone would load it."""
    model = build_model(Config.fromfile(folder / 'config.py'))
    model.load_state_dict(torch.load(folder / 'slim.pth', weights_only=True)['state_dict'])
    return model


@torch.no_grad()
def relative(first: nn.Module, second: nn.Module, images: torch.Tensor) -> float:
    expected = first(images)
    return float((second(images) - expected).abs().max() / expected.abs().max())


def test_a_masked_checkpoint_deploys_to_what_it_computes(trained, images, tmp_path):
    """Channels that are masked in the file are gone from the folder; outputs are equal to 1e-5."""
    checkpoint = torch.load(trained.path(2), weights_only=False)
    assert PruningState.from_checkpoint(checkpoint).kind == 'masked'
    masked = build_model(trained.config)
    masked.load_state_dict(checkpoint['state_dict'])
    deploy(trained.config, trained.path(2), tmp_path / 'slim', repeats=1)
    slim = load(tmp_path / 'slim')
    assert count_parameters(slim) < count_parameters(masked)
    assert relative(masked, slim, images) < 1e-5


def _widths(model: nn.Module) -> int:
    return sum(len(parameter) for parameter in model.parameters())


def _coupled_unseen(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    return inputs * _widths(model)


def _of_stored_width(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    if _widths(model) != _widths(ThreeConvolutions()):
        raise ValueError('stored width')
    return inputs


@pytest.mark.parametrize(
    ('between', 'words'), [(_coupled_unseen, 'changes the output by'), (_of_stored_width, 'makes the model fail')]
)
def test_masks_whose_removal_changes_the_output_are_refused(trained, tmp_path, monkeypatch, between, words):
    """The network that trained knows its width by other means than were found; nothing is written."""
    original = ThreeConvolutions.forward

    def forward(self, inputs, data_samples=None, mode='tensor'):
        scores = self.head(between(self, self.features(inputs)).mean(dim=(2, 3)))
        return scores if mode == 'tensor' else original(self, inputs, data_samples, mode)

    monkeypatch.setattr(ThreeConvolutions, 'forward', forward)
    with pytest.raises(MmsharpError, match=words):
        deploy(trained.config, trained.path(2), tmp_path / 'slim', repeats=1)
    assert not (tmp_path / 'slim').exists()


def test_a_masked_model_that_does_not_run_is_noted(trained, tmp_path, monkeypatch):
    """Nothing can be compared, and the report says so."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        raise KeyError('depth')

    monkeypatch.setattr(ThreeConvolutions, 'forward', forward)
    report = deploy(trained.config, trained.path(2), tmp_path / 'slim', repeats=1)
    assert any('were not compared' in note and 'depth' in note for note in report['notes'])


def test_a_slim_checkpoint_deploys_to_the_trained_model(trained, images, tmp_path):
    """The model that training ended with; under EMA its average, not the plain weights."""
    assert PruningState.from_checkpoint(torch.load(trained.path(4), weights_only=False)).kind == 'slim'
    report = deploy(trained.config, trained.path(4), tmp_path / 'slim', repeats=1)
    slim = load(tmp_path / 'slim')
    assert report['slim']['parameters'] == count_parameters(slim) == count_parameters(trained.model)
    assert relative(trained.model, slim, images) < 1e-5
    if hasattr(trained, 'plain'):
        assert relative(trained.plain, slim, images) > 1e-4


@pytest.mark.parametrize('epoch', [2, 4])
def test_only_weights_are_kept(trained, tmp_path, epoch):
    """No optimizer, schedulers, message hub or shadow; plain data that needs no unpickling; a state that says slim."""
    deploy(trained.config, trained.path(epoch), tmp_path, repeats=1)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    checkpoint = torch.load(tmp_path / 'slim.pth', weights_only=True)
    assert set(checkpoint) == {'meta', 'state_dict'}
    assert PruningState.from_checkpoint(checkpoint).kind == 'slim'
    assert not any('ema' in key or key.startswith('module.') for key in checkpoint['state_dict'])
    assert (tmp_path / 'slim.pth').stat().st_size < (trained.folder / f'epoch_{epoch}.pth').stat().st_size


def test_the_report_is_what_was_returned(trained, tmp_path):
    """Parameters, MACs and latency, before and after, for the shape that the checkpoint names."""
    report = deploy(trained.config, trained.path(4), tmp_path, repeats=2)
    assert json.loads((tmp_path / 'slim.json').read_text()) == report
    assert report['input_shape'] == [3, 8, 8]
    for key in ('parameters', 'macs'):
        assert 0 < report['slim'][key] < report['dense'][key]
    # Longhand: three 3x3 convolutions on 8x8 positions and the classifier, without biases.
    assert report['dense']['macs'] == 64 * 9 * (3 * 12 + 12 * 12 + 12 * 12) + 2 * 12
    assert report['slim']['latency_ms'] > 0


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


def test_deploying_twice_replaces_and_leaves_nothing_beside(trained, tmp_path):
    """The second checkpoint's files, and no temporary ones."""
    for epoch in (2, 4):
        deploy(trained.config, trained.path(epoch), tmp_path, repeats=1)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    slim = load(tmp_path)
    assert count_parameters(slim) == count_parameters(trained.model)


def changed(path, change) -> dict:
    checkpoint = torch.load(path, weights_only=False)
    change(checkpoint)
    return checkpoint


@pytest.mark.parametrize(
    ('epoch', 'change', 'words'),
    [
        (1, lambda checkpoint: None, r'bad\.pth.*dense.*PruningHook'),
        (4, lambda checkpoint: checkpoint.pop('state_dict'), r'bad\.pth.*state_dict'),
        (4, lambda checkpoint: checkpoint['state_dict'].pop('head.weight'), r"bad\.pth.*'head\.weight' is missing"),
        (4, lambda checkpoint: checkpoint['mmsharp'].update(version=99), r'version 99'),
        (4, lambda checkpoint: checkpoint['mmsharp'].update(recipe={}), r'recipe'),
        (4, lambda checkpoint: checkpoint['mmsharp'].update(state='thin'), r"'thin'"),
    ],
)
def test_bad_checkpoints_are_refused(trained, tmp_path, epoch, change, words):
    """Named, and nothing is written."""
    torch.save(changed(trained.path(epoch), change), tmp_path / 'bad.pth')
    with pytest.raises(MmsharpError, match=words):
        deploy(trained.config, str(tmp_path / 'bad.pth'), tmp_path / 'slim', repeats=1)
    assert not (tmp_path / 'slim').exists()


@pytest.mark.parametrize('epoch', [2, 4])
def test_another_model_s_config_is_refused(trained, tmp_path, epoch):
    """For a masked and for a slim checkpoint; nothing is written."""
    config = copy.deepcopy(trained.config)
    config.model.width = 10
    with pytest.raises(MmsharpError, match=r'fit|size|channels'):
        deploy(config, trained.path(epoch), tmp_path / 'slim', repeats=1)
    assert not (tmp_path / 'slim').exists()


def test_the_written_config_does_not_go_with_the_first_training(trained, tmp_path):
    """Its network is slim already; a checkpoint that still has to be cut was not written for it."""
    deploy(trained.config, trained.path(2), tmp_path / 'slim', repeats=1)
    with pytest.raises(MmsharpError, match=r'describes a slim model already.*ordinary config'):
        deploy(Config.fromfile(tmp_path / 'slim/config.py'), trained.path(4), tmp_path / 'again', repeats=1)
    assert not (tmp_path / 'again').exists()


def slim_training(folder, work_dir, **hooks) -> Config:
    """The config that ``tools/slim.py`` wrote, to be trained on from its weights."""
    config = Config.fromfile(folder / 'config.py')
    config.work_dir = config.experiment_name = str(work_dir)
    config.load_from = str(folder / 'slim.pth')
    config.default_hooks.update(hooks)
    return config


def test_a_slim_model_that_was_trained_on_is_deployed(trained, images, tmp_path):
    """Its checkpoints say nothing of pruning; the config does."""
    report = deploy(trained.config, trained.path(4), tmp_path / 'slim', repeats=1)
    config = slim_training(tmp_path / 'slim', tmp_path / 'run')
    runner = Runner.from_cfg(copy.deepcopy(config))
    runner.train()
    again = deploy(config, str(tmp_path / 'run/epoch_4.pth'), tmp_path / 'again', repeats=1)
    assert {key: again[key]['parameters'] for key in ('dense', 'slim')} == {
        key: report[key]['parameters'] for key in ('dense', 'slim')
    }
    assert again['input_shape'] == [3, 8, 8]
    if not hasattr(trained, 'plain'):
        assert relative(runner.model.eval(), load(tmp_path / 'again'), images) < 1e-5


@pytest.mark.parametrize('epoch', [2, 4], ids=['masked', 'slim'])
def test_a_slim_model_that_was_pruned_again_is_deployed(trained, images, tmp_path, epoch):
    """The two recipes become one, from the dense network on."""
    first = deploy(trained.config, trained.path(4), tmp_path / 'slim', repeats=1)
    config = slim_training(tmp_path / 'slim', tmp_path / 'run', pruning=dict(HOOK, budget=dict(params=0.6)))
    Runner.from_cfg(copy.deepcopy(config)).train()
    checkpoint = torch.load(tmp_path / f'run/epoch_{epoch}.pth', weights_only=False)
    report = deploy(config, str(tmp_path / f'run/epoch_{epoch}.pth'), tmp_path / 'again', repeats=1)
    assert report['dense']['parameters'] == first['dense']['parameters']
    assert report['slim']['parameters'] < first['slim']['parameters']
    if epoch == 2:
        expected = build_model(Config.fromfile(tmp_path / 'slim/config.py'))
        expected.load_state_dict(checkpoint['state_dict'])
        assert relative(expected, load(tmp_path / 'again'), images) < 1e-5


def test_a_checkpoint_from_before_the_budget_was_met_is_noted(trained, tmp_path):
    """``save_best`` may choose one; the report says so, and is silent where the budget is met."""
    assert deploy(trained.config, trained.path(4), tmp_path / 'late', repeats=1)['notes'] == []
    (note,) = deploy(trained.config, trained.path(2), tmp_path / 'early', repeats=1)['notes']
    assert 'more than the budget params=0.5' in note


def test_a_write_that_fails_leaves_the_old_files(trained, tmp_path, monkeypatch):
    """A full disk while the weights are written: the earlier deployment is as it was, without temporary files."""
    deploy(trained.config, trained.path(2), tmp_path, repeats=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(content, path) -> None:
        path.write_bytes(b'half')
        raise OSError('No space left on device')

    monkeypatch.setattr(deployment.torch, 'save', fail)
    with pytest.raises(OSError, match='No space'):
        deploy(trained.config, trained.path(4), tmp_path, repeats=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class Killed(BaseException):
    """Nothing in the code under test catches it."""


def contents(folder) -> dict:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize('moment', range(len(FILES)))
def test_a_kill_amid_the_exchange_leaves_no_mixture(trained, images, tmp_path, monkeypatch, moment):
    """Wherever it comes, there is no config beside files of another; the same call again completes the folder."""
    folder = tmp_path / 'slim'
    deploy(trained.config, trained.path(2), folder, repeats=1)
    (folder / 'notes.txt').write_text('mine')
    exchanged, replace = [], os.replace

    def kill(source, target) -> None:
        if Path(target).parent == folder:
            if len(exchanged) == moment:
                raise Killed
            exchanged.append(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', kill)
        with pytest.raises(Killed):
            deploy(trained.config, trained.path(4), folder, repeats=1)
    assert 'config.py' not in contents(folder)
    (folder / deployment.STAGING).mkdir()
    (folder / deployment.STAGING / 'config.py').write_text('what a kill leaves')
    deploy(trained.config, trained.path(4), folder, repeats=1)
    assert {path.name for path in folder.iterdir()} == {*FILES, 'notes.txt'}
    assert relative(trained.model, load(folder), images) < 1e-5


def test_what_cannot_be_written_is_refused_before_anything_is(trained, tmp_path):
    """A class that no file can name, or an object that no text stands for; the folder is not made."""

    class Local(nn.Module):
        pass

    for value, words in (
        (dict(type=Local), r'extra\.part\.type=.*Local'),
        (object(), r'written as text|cannot be read'),
    ):
        config = copy.deepcopy(trained.config)
        config.extra = dict(part=value)
        with pytest.raises(MmsharpError, match=words):
            deploy(config, trained.path(4), tmp_path / 'slim', repeats=1)
        assert not (tmp_path / 'slim').exists()


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


@MODELS.register_module(force=True)
class WithTeacher(ThreeConvolutions):
    """Loads a teacher when it is built, as distillation models do, and has a `train` that gives nothing."""

    def __init__(self, teacher_ckpt: str | None = None) -> None:
        super().__init__()
        if teacher_ckpt:
            torch.load(teacher_ckpt, weights_only=False)

    def train(self, mode: bool = True) -> None:
        super().train(mode)


class Payload:
    """Unpickling it would leave a file behind."""

    def __init__(self, marker) -> None:
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), 'w')


def test_a_teacher_that_the_config_names_is_not_unpickled(tmp_path):
    """Whatever building the model loads is read as plain data; and a model whose `train` gives nothing is built."""
    Runner.from_cfg(training_config(tmp_path / 'run')).train()
    path = sorted((tmp_path / 'run').glob('*.pth'))[-1]
    marker, evil = tmp_path / 'ran', tmp_path / 'evil.pth'
    torch.save(dict(state_dict={}, payload=Payload(marker)), evil)
    config = training_config(tmp_path / 'run')
    config.model = dict(type='WithTeacher', teacher_ckpt=str(evil))
    with pytest.raises(MmsharpError, match='run code'):
        deploy(config, str(path), tmp_path / 'out', repeats=1)
    assert not marker.exists()
    config.model = dict(type='WithTeacher')
    assert isinstance(build_model(config), WithTeacher)


def test_a_checkpoint_of_another_config_is_named(tmp_path):
    """The recipe's first layer alone would not tell the user what to change."""
    Runner.from_cfg(training_config(tmp_path / 'run')).train()
    path = sorted((tmp_path / 'run').glob('*.pth'))[-1]
    config = training_config(tmp_path / 'run')
    config.model = dict(type='ThreeConvolutions', width=16)
    with pytest.raises(MmsharpError, match=f'{path.name}.*does not fit'):
        deploy(config, str(path), tmp_path / 'out', repeats=1)


def test_two_calls_on_one_folder_do_not_destroy_each_other(tmp_path):
    """The second is refused while the first lives; what a dead one left is swept away."""
    Runner.from_cfg(training_config(tmp_path / 'run')).train()
    path = sorted((tmp_path / 'run').glob('*.pth'))[-1]
    other = tmp_path / 'out' / f'{deployment.STAGING}.{os.getppid()}'
    other.mkdir(parents=True)
    with pytest.raises(MmsharpError, match='another process'):
        deploy(training_config(tmp_path / 'run'), str(path), tmp_path / 'out', repeats=1)
    other.rename(other.with_suffix('.999999999'))
    deploy(training_config(tmp_path / 'run'), str(path), tmp_path / 'out', repeats=1)
    assert {found.name for found in (tmp_path / 'out').iterdir()} == FILES


def test_weights_that_are_not_finite_are_not_deployed(tmp_path):
    """A diverged training is named, and nothing is written."""
    Runner.from_cfg(training_config(tmp_path / 'run')).train()
    path = sorted((tmp_path / 'run').glob('*.pth'))[-1]
    checkpoint = torch.load(path, weights_only=False)
    checkpoint['state_dict']['head.weight'][0] = torch.nan
    torch.save(checkpoint, path)
    with pytest.raises(MmsharpError, match=r'head\.weight.*not finite'):
        deploy(training_config(tmp_path / 'run'), str(path), tmp_path / 'out', repeats=1)
    assert not (tmp_path / 'out').exists()
