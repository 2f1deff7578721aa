"""What does not fit, is not finite or is no plain data is refused before anything is written."""

import copy

import pytest
import torch
from deployed_training import ThreeConvolutions, training_config
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.deployment.deploy import deploy
from mmsharp.errors import MmsharpError


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


def misfit(checkpoint: dict) -> None:
    """Cut a convolution further, in the recipe and the weights, but neither the BatchNorm nor the layer behind it."""
    axis = checkpoint['mmsharp']['recipe']['modules']['features.3']['out']
    kept = len(axis['kept'])
    axis['kept'] = axis['kept'][:-1]
    for name in ('weight', 'bias'):
        stored = checkpoint['state_dict'][f'features.3.{name}']
        if len(stored) == kept:  # slim already
            checkpoint['state_dict'][f'features.3.{name}'] = stored[:-1].clone()


@pytest.mark.parametrize(
    ('epoch', 'words'), [(2, 'makes the model fail'), (4, 'from one layer to the next.*RuntimeError')]
)
def test_layers_that_do_not_fit_each_other_are_refused(trained, tmp_path, epoch, words):
    """Of a masked and of a slim checkpoint, each layer for itself as its recipe says; nothing is written."""
    torch.save(changed(trained.path(epoch), misfit), tmp_path / 'bad.pth')
    with pytest.raises(MmsharpError, match=rf'bad\.pth.*{words}'):
        deploy(trained.config, str(tmp_path / 'bad.pth'), tmp_path / 'slim', repeats=1)
    assert not (tmp_path / 'slim').exists()


@MODELS.register_module(force=True)
class Particular(ThreeConvolutions):
    """Does not run with weights that training has changed."""

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if not self.training and self.features[1].num_batches_tracked > 0:
            raise RuntimeError('nothing was found')
        return super().forward(inputs, data_samples, mode)


def test_a_failure_that_is_not_the_recipe_s_is_no_refusal(trained, tmp_path):
    """A slim model that fails for its weights is written as ever, with the reason why it was not measured."""
    config = copy.deepcopy(trained.config)
    config.model.type = 'Particular'
    report = deploy(config, trained.path(4), tmp_path / 'slim', repeats=1)
    assert 'nothing was found' in report['slim']['notes']


def test_a_checkpoint_of_another_config_is_named(tmp_path):
    """The recipe's first layer alone would not tell the user what to change."""
    Runner.from_cfg(training_config(tmp_path / 'run')).train()
    path = sorted((tmp_path / 'run').glob('*.pth'))[-1]
    config = training_config(tmp_path / 'run')
    config.model = dict(type='ThreeConvolutions', width=16)
    with pytest.raises(MmsharpError, match=f'{path.name}.*does not fit'):
        deploy(config, str(path), tmp_path / 'out', repeats=1)


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
