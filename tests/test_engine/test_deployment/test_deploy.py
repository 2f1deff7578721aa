"""What is deployed computes what was trained, in every phase, and nothing else is kept."""

import copy
import json

import pytest
import torch
from deployed_training import FILES, HOOK, ThreeConvolutions, load, relative, slim_training
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.deployment.deploy import deploy
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.errors import MmsharpError
from mmsharp.pruning import count_parameters


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


@pytest.mark.parametrize('epoch', [2, 4])
def test_a_published_checkpoint_deploys_as_the_whole_one(trained, tmp_path, epoch):
    """Of which tools like mmdet's `publish_model.py` keep the weights and `meta` alone."""
    checkpoint = torch.load(trained.path(epoch), weights_only=False)
    torch.save({name: checkpoint[name] for name in ('meta', 'state_dict')}, tmp_path / 'published.pth')
    for path, name in ((trained.path(epoch), 'whole'), (str(tmp_path / 'published.pth'), 'published')):
        deploy(trained.config, path, tmp_path / name, repeats=1)
    whole, published = (load(tmp_path / name).state_dict() for name in ('whole', 'published'))
    assert all(torch.equal(value, published[name]) for name, value in whole.items())


def test_a_slim_checkpoint_without_its_recipe_is_not_called_dense(trained, tmp_path):
    """Its shapes say that it is not; dense ones are told from it."""
    checkpoint = torch.load(trained.path(4), weights_only=False)
    torch.save(dict(state_dict=checkpoint['state_dict']), tmp_path / 'bare.pth')
    with pytest.raises(MmsharpError, match=r'bare\.pth. does not fit'):
        deploy(trained.config, str(tmp_path / 'bare.pth'), tmp_path / 'slim', repeats=1)


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
