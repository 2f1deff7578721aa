"""Sharpness and loss surface of a config and a checkpoint, as users call them: a number, a record and a figure."""

import importlib.util
import json
import sys
from pathlib import Path

import cv2
import pytest
import torch

from mmsharp.apis import init_model, slim
from mmsharp.command_line import run
from mmsharp.engine.configs.building_runner import build_runner
from mmsharp.engine.configs.config import load_config
from mmsharp.engine.model_access.fixed_losses import fixed_losses
from mmsharp.engine.pruning.pruning_state import PruningState
from mmsharp.errors import MmsharpError

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


def _module(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


robust_data = _module('robust_data', ROOT / 'tests' / 'robust_data.py')
sharpness = _module('tool_sharpness', ROOT / 'tools' / 'analysis_tools' / 'sharpness.py')
loss_surface = _module('tool_loss_surface', ROOT / 'tools' / 'analysis_tools' / 'loss_surface.py')


@pytest.fixture(scope='module', params=['classifier', 'detector'])
def paths(request, tmp_path_factory):
    """A config with training data, and two checkpoints."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == 'classifier':
        config = robust_data.classifier_config(robust_data.write_class_folders(folder / 'images'))
        config.train_dataloader = dict(config.test_dataloader, sampler=dict(type='DefaultSampler', shuffle=True))
    else:
        config = robust_data.detector_config(robust_data.write_voc(folder))
        config.train_dataloader = config.test_dataloader.copy()
        config.train_dataloader.dataset.pipeline = [
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ]
        config.train_dataloader.dataset.test_mode = False
    config.dump(folder / 'small.py')
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = init_model(folder / 'small.py')
        torch.save(dict(state_dict=model.state_dict()), folder / f'seed{seed}.pth')
    return folder / 'small.py', folder / 'seed0.pth', folder / 'seed1.pth'


def _call(monkeypatch, tool, *arguments):
    monkeypatch.setattr(sys, 'argv', [tool.__file__, *map(str, arguments)])
    run(tool.main)


def test_sharpness_from_checkpoints_to_a_figure(paths, tmp_path, monkeypatch, capsys):
    """One row per checkpoint and radius, at least the loss at the weights; the same numbers when called again."""
    config, first, second = paths
    for out in ('a', 'b'):
        _call(
            monkeypatch, sharpness, config, first, second, '--rho', 0.1, 0.01, '--batches', 2, '--out', tmp_path / out
        )
    printed = capsys.readouterr().out
    records = [json.loads((tmp_path / out / 'sharpness.json').read_text()) for out in ('a', 'b')]
    assert records[0]['results'] == records[1]['results']
    for name in ('seed0', 'seed1'):
        assert name in printed
        small, large = records[0]['results'][name]
        assert (small['rho'], large['rho']) == (0.01, 0.1)
        assert 0 < small['value'] < large['value']
        assert small['loss'] == large['loss']
    assert cv2.imread(str(tmp_path / 'a' / 'sharpness.png')).shape[0] > 300


def test_more_steps_and_the_adaptive_ball(paths, tmp_path, monkeypatch):
    """The flags reach the measurement."""
    config, first, _ = paths
    values = []
    for number, flags in enumerate([('--steps', 1), ('--steps', 4), ('--adaptive',)]):
        out = tmp_path / str(number)
        _call(monkeypatch, sharpness, config, first, '--rho', 0.2, '--batches', 1, '--out', out, *flags)
        values.append(json.loads((out / 'sharpness.json').read_text())['results']['seed0'][0]['value'])
    assert values[1] >= values[0] * 0.999
    assert len(set(values)) == 3


@pytest.fixture(scope='module')
def pruned(tmp_path_factory):
    """A config that prunes a classifier, after its training with the options of the documents; and the slim folder."""
    folder = tmp_path_factory.mktemp('pruned')
    config = robust_data.classifier_config(robust_data.write_class_folders(folder / 'images'))
    config.train_dataloader = dict(config.test_dataloader, sampler=dict(type='DefaultSampler', shuffle=True))
    config.train_cfg = dict(by_epoch=True, max_epochs=3)
    config.optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
    pruning = dict(type='mmsharp.PruningHook', budget=dict(params=0.5), warmup=1, pruning=1, interval=1)
    pruning['pruner'] = dict(type='mmsharp.ChannelPruner', round_to=1)
    checkpoint = dict(type='CheckpointHook', interval=1, max_keep_ckpts=2)
    config.default_hooks = dict(config.get('default_hooks', {}), pruning=pruning, checkpoint=checkpoint)
    config.dump(folder / 'small.py')
    config = load_config(folder / 'small.py', {'default_hooks.checkpoint.max_keep_ckpts': -1})
    config.merge_from_dict(dict(work_dir=str(folder), experiment_name=str(folder), test_dataloader=None))
    config.test_cfg = config.test_evaluator = None
    build_runner(config).train()
    slim(folder / 'small.py', folder / 'epoch_2.pth', folder / 'slim', repeats=1)
    return folder


@pytest.mark.parametrize('flags', [('--adaptive',), ('--steps', 4)])
def test_sharpness_before_and_after_pruning(pruned, tmp_path, monkeypatch, capsys, flags):
    """Dense, masked and slim checkpoints with one config and one command; slim is as sharp as masked.

    The last is the network after training: it was cut in the midst of it, and the slim folder's is cut from epoch 2.
    """
    names = ('before', 'after', 'slim', 'trained')
    files = [pruned / name for name in ('epoch_1.pth', 'epoch_2.pth', 'slim/slim.pth', 'epoch_3.pth')]
    kinds = [PruningState.from_checkpoint(torch.load(path, weights_only=False)).kind for path in files]
    assert kinds == ['dense', 'masked', 'slim', 'slim']
    out = tmp_path / 'sharpness'
    arguments = ('--rho', 0.1, 0.5, '--batches', 2, *flags, '--out', out, '--names', *names)
    _call(monkeypatch, sharpness, pruned / 'small.py', *files, *arguments)
    printed = capsys.readouterr().out
    results = json.loads((out / 'sharpness.json').read_text())['results']
    assert list(results) == list(names)
    assert all(f'\n{name} ' in printed for name in names)
    for masked, small in zip(results['after'], results['slim']):
        for key in ('loss', 'perturbed_loss'):
            assert small[key] == pytest.approx(masked[key], rel=1e-4)
    for name in ('before', 'trained'):
        assert results[name][0]['loss'] != results['after'][0]['loss']
        assert all(row['value'] > 0 for row in results[name])


def test_loss_surface_from_a_checkpoint_to_a_figure(paths, tmp_path, monkeypatch, capsys):
    """A square of losses with the model in the middle."""
    config, first, _ = paths
    _call(monkeypatch, loss_surface, config, first, '--points', 3, '--batches', 1, '--out', tmp_path / 'out')
    record = json.loads((tmp_path / 'out' / 'loss_surface.json').read_text())
    assert record['axis'] == [-1.0, 0.0, 1.0]
    assert [len(row) for row in record['losses']] == [3, 3, 3]
    loaded = load_config(config)
    model = init_model(loaded, first)
    with torch.no_grad():
        expected = fixed_losses(loaded, model, batches=1)[0](model).item()
    assert record['losses'][1][1] == pytest.approx(expected, rel=1e-5)
    assert f'loss {expected:.4f} at the model' in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / 'out' / 'loss_surface.png')).shape[0] > 300


def test_losses_are_fixed_and_leave_random_states_alone(paths):
    """Called twice they give the same, and building them draws nothing from the generators of this process."""
    loaded = load_config(paths[0])
    model = init_model(loaded, paths[1])
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    losses = fixed_losses(loaded, model, batches=2)
    assert torch.equal(torch.rand(1), expected)
    with torch.no_grad():
        assert [loss(model).item() for loss in losses] == [loss(model).item() for loss in losses]


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('--split', 'val'), 'val_dataloader'),
        (('--rho', '-1'), 'rho'),
        (('--cfg-options', 'train_dataloader.dataset.data_root=nowhere'), 'nowhere'),
    ],
)
def test_bad_input_is_one_line(paths, tmp_path, monkeypatch, capsys, arguments, words):
    """Exit status 2, and what is wrong."""
    config, first, _ = paths
    with pytest.raises(SystemExit) as ended:
        _call(monkeypatch, sharpness, config, first, '--out', tmp_path, *arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_missing_losses_are_an_error_of_ours(paths):
    """A split that the config lacks is named."""
    loaded = load_config(paths[0])
    with pytest.raises(MmsharpError, match='val_dataloader'):
        fixed_losses(loaded, init_model(loaded), 'val')


def test_a_ball_in_which_the_loss_is_no_number_loses_nothing(paths, tmp_path, monkeypatch, capsys):
    """The other radii are measured, printed and drawn; JSON has null where it has no infinity."""
    config, first, second = paths
    _call(monkeypatch, sharpness, config, first, second, '--rho', 0.01, 1e15, '--batches', 1, '--out', tmp_path)
    results = json.loads((tmp_path / 'sharpness.json').read_text())['results']
    for name in ('seed0', 'seed1'):
        small, large = results[name]
        assert small['value'] > 0
        assert large['value'] is None
        assert large['perturbed_loss'] is None
    assert 'inf' in capsys.readouterr().out
    assert (tmp_path / 'sharpness.png').is_file()


def test_a_diverged_model_has_no_surface(paths, tmp_path, monkeypatch, capsys):
    """Said before the grid is evaluated."""
    config, first, _ = paths
    broken = torch.load(first)
    broken['state_dict'] = {
        name: 1e15 * value if value.is_floating_point() else value for name, value in broken['state_dict'].items()
    }
    torch.save(broken, tmp_path / 'broken.pth')
    monkeypatch.setattr(loss_surface.LossSurface, 'grid', None)
    with pytest.raises(SystemExit) as caught:
        _call(monkeypatch, loss_surface, config, tmp_path / 'broken.pth', '--batches', 1, '--out', tmp_path / 'out')
    assert caught.value.code != 0
    assert ', and a surface around it would show nothing' in capsys.readouterr().err
