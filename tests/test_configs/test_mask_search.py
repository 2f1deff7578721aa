"""Configs of C-SAM and its baselines on single weights: the comparison is one of methods, and each of them trains."""

import copy
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS
from shipped_configs import AUGMENTED, CONFIGS, SEARCHED, dense_of, load
from shipped_data import LOADERS

from mmsharp.engine.checkpoints.mask_search_checkpoint import ordinary_of
from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.configs.config import load_config
from mmsharp.engine.hooks import MaskSearchHook
from mmsharp.engine.prunability.examples import announce_first_iteration, training_batch
from mmsharp.models.mask_search_settings import MaskSearchSettings
from mmsharp.registry import MASK_TERMS

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

BASELINES = ('hydra', 'weight_magnitude', 'weight_magnitude_sam', 'sam_weight_magnitude')
SMALL_SETUP = 'resnet20_cifar10'
WITH_MASKS = [name for name in SEARCHED if not name.startswith('sam/')]
STEPPED = [name for name in WITH_MASKS if name not in AUGMENTED]
"""Augmentation is all that those have besides, as a test below compares."""


@pytest.mark.parametrize('name', SEARCHED)
def test_the_network_is_the_dense_one_with_a_search(name):
    """Same model, data and evaluation; weights at half, or the budget of the other methods.

    A detector's backbone follows the statistics of the soft masks, which that of the dense one may not.
    """
    config, dense = load(name), load(dense_of(name))
    if 'retinanet' in name:
        dense.model.backbone.norm_eval = False
    assert ordinary_of(config).model == dense.model
    for key in ('val_evaluator', 'test_evaluator', *(LOADERS[1:] if name in AUGMENTED else LOADERS)):
        assert config[key] == dense[key], key
    for key in ('data_preprocessor', 'robustness', 'randomness'):
        assert config.get(key) == dense.get(key), key
    if name.startswith('sam/'):
        assert 'pruning' not in config.default_hooks
        return
    settings = MaskSearchSettings.of(config.model.search)
    if 'retinanet' in name or 'params50' in name:
        assert settings.granularity == 'channel'
        assert settings.budget_of == ('params', 0.5 if 'params50' in name else 0.4)
    else:
        assert (settings.granularity, settings.ratio) == ('weight', 0.5)
    hook = HOOKS.build(copy.deepcopy(config.default_hooks.pruning))
    length = hook.search if isinstance(hook.search, float) else hook.search / config.train_cfg.max_epochs
    assert (length == 0) == ('weight_magnitude' in name)
    assert length < 1


@pytest.mark.parametrize('name', [name for name in SEARCHED if name.startswith(('csam/', 'hydra/'))])
def test_masks_learn_at_the_rate_that_the_optimizer_wants(name):
    """Ten times the weights' under SGD; under AdamW, whose steps are the rate itself, less than [0, 1] in all."""
    config = load(name)
    own = config.optim_wrapper.paramwise_cfg.custom_keys.mask_search
    optimizer = config.optim_wrapper.optimizer
    if optimizer.type == 'SGD':
        assert own == dict(lr_mult=10.0, decay_mult=0.0)
        return
    assert (name, optimizer.type) == ('csam/retinanet_r18_bccd.py', 'AdamW')
    assert own == dict(lr_mult=1.0, decay_mult=0.0)
    steps = config.default_hooks.pruning.search * -(-205 // config.train_dataloader.batch_size)
    assert own.lr_mult * optimizer.lr * steps < 0.3


@pytest.mark.parametrize('name', [name for name in SEARCHED if '/' + SMALL_SETUP in name])
def test_baselines_differ_by_what_their_folder_says(name):
    """Epochs, schedule, rate and seed are C-SAM's; the search, SAM and the weights that are loaded are the method's."""
    ours, theirs = (load(path).to_dict() for path in (name, f'csam/{Path(name).name}'))
    folder = name.partition('/')[0]
    sharp = 'mmsharp.SAMOptimWrapper' if folder in ('sam', 'weight_magnitude_sam') else 'OptimWrapper'
    assert ours['optim_wrapper'].pop('type', 'OptimWrapper') == sharp
    after_sam = f'work_dirs/sam/{Path(name).stem}/epoch_16.pth'
    assert ours.pop('load_from') == (after_sam if folder == 'sam_weight_magnitude' else theirs.pop('load_from'))
    for settings in (ours, theirs):
        for key in ('type', 'ascent', 'paramwise_cfg'):
            settings['optim_wrapper'].pop(key, None)
        settings['default_hooks'].pop('pruning', None)
        settings.pop('load_from', None)
        settings.pop('model')
        for key in [key for key in settings if key.startswith('csam_')]:
            settings.pop(key)
    assert ours == theirs


def test_the_small_setup_has_every_baseline_with_and_without_transforms():
    """On weights; on channels, magnitude and AdaSAP to half of the parameters."""
    for suffix in ('', '_aug'):
        for folder in ('csam', 'sam', *BASELINES):
            assert f'{folder}/{SMALL_SETUP}{suffix}.py' in SEARCHED
        for folder in ('magnitude', 'adasap'):
            assert (CONFIGS / f'{folder}/{SMALL_SETUP}_params50{suffix}.py').is_file()


@pytest.mark.parametrize('name', AUGMENTED)
def test_augmentation_adds_the_transforms_of_the_margin_ratio_and_nothing_else(name):
    """To the training images of the config of the same name; with the same ranges."""
    ours, plain = load(name), load(name.replace('_aug.py', '.py'))
    pipelines = [config.train_dataloader.dataset.pop('pipeline') for config in (ours, plain)]
    added = [step for step in pipelines[0] if step not in pipelines[1]]
    searched = load('csam/resnet20_cifar10.py').model.search.losses.margin_ratio.transform
    assert added == [dict(type='mmsharp.RandomImageTransforms', transforms=searched)]
    assert [step for step in pipelines[0] if step not in added] == pipelines[1]
    ours.pop('cifar10_aug_pipeline')
    different = {key for key in {*ours, *plain} if ours.get(key) != plain.get(key)}
    assert different <= {'load_from'}


@pytest.mark.parametrize('name', [name for name in SEARCHED if not name.startswith('sam_')])
def test_they_start_where_dense_training_ends(name):
    """The last checkpoint of the dense config, or published weights."""
    found, dense = load(name).load_from, dense_of(name)
    if SMALL_SETUP in name:
        assert found == f'data/{SMALL_SETUP}.pth'
    else:
        assert Path(found).name == f'epoch_{load(dense).train_cfg.max_epochs}.pth'


@pytest.mark.parametrize('name', STEPPED)
def test_one_step_moves_the_masks_alone(name):
    """The loss is finite and its terms are the config's; weights stand still but for HYDRA's normalisations."""
    config = load(name)
    torch.manual_seed(0)
    model = build_model(config)
    model.train()
    wrapper = build_optim_wrapper(model, copy.deepcopy(config.optim_wrapper))
    announce_first_iteration()
    before = {key: value.clone() for key, value in model.named_parameters()}
    model.begin_search()
    begun = {key: value.clone() for key, value in model.mask_search.variables.items()}
    size = 32 if name.endswith(('cifar10.py', 'digits.py')) else 64
    log = model.train_step(training_batch(config, config.default_scope, size, 2, seed=0), wrapper)
    assert torch.isfinite(log['loss'])
    terms = {f'loss_{key}' for key, part in config.model.search.losses.items() if part and key != 'task'}
    assert terms <= set(log)
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    own = {key for key in moved if key.startswith('mask_search.')}
    assert any(not torch.equal(value, begun[key]) for key, value in model.mask_search.variables.items())
    assert all('bn' in key for key in moved - own) if name.startswith('hydra/') else moved == own
    groups = {group['lr'] for group in wrapper.optimizer.param_groups}
    times = config.optim_wrapper.paramwise_cfg.custom_keys.mask_search.lr_mult
    assert groups == {config.optim_wrapper.optimizer.lr, times * config.optim_wrapper.optimizer.lr}


def same(first: Any, second: Any) -> bool:
    """Whether two built parts have the same settings, also inside."""
    if type(first) is not type(second):
        return False
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    if not hasattr(first, '__dict__'):
        return first == second
    ours, theirs = vars(first), vars(second)
    return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)


def test_the_method_can_be_inherited(tmp_path):
    """``_base_/csam.py`` beside a whole config, by the lines that its head names; its settings are the defaults."""
    path = tmp_path / 'heir.py'
    path.write_text(
        f'_base_ = [{str(CONFIGS / "dense/resnet18_digits.py")!r}, {str(CONFIGS / "_base_/csam.py")!r}]\n'
        "model = dict(type='mmsharp.MaskSearch', base='ImageClassifier', search={{_base_.csam_search}})\n"
        'optim_wrapper = dict(paramwise_cfg={{_base_.csam_paramwise}})\n'
        'default_hooks = {{_base_.csam_hooks}}\n'
    )
    config, dense = load_config(path), load('dense/resnet18_digits.py')
    assert set(config.default_hooks) == {*dense.default_hooks, 'pruning'}
    assert config.optim_wrapper.optimizer == dense.optim_wrapper.optimizer
    written = MaskSearchSettings.of(config.model.search)
    plain = MaskSearchSettings.of(dict(ratio=0.5))
    for part in ('parameterisation', 'perturbation'):
        assert same(getattr(written, part), getattr(plain, part)), part
    assert written.losses.keys() == plain.losses.keys()
    assert all(same(written.losses[key], plain.losses[key]) for key in plain.losses)
    hook, default = (
        HOOKS.build(dict(part)) for part in (config.default_hooks.pruning, dict(type='mmsharp.MaskSearchHook'))
    )
    assert (hook.search, hook.slim) == (default.search, default.slim)
    assert set(inspect.signature(MaskSearchHook).parameters) == set(config.default_hooks.pruning) - {'type'}
    text = (CONFIGS / '_base_/csam_parts.py').read_text()
    for name in MaskSearchSettings.__dataclass_fields__:
        of_channels = name in ('budget', 'input_shape', 'round_to')
        assert (name in config.model.search) is not of_channels, name
        assert f'{name}=' in text
    for term in config.model.search.losses.values():
        assert set(inspect.signature(MASK_TERMS.get(term.type)).parameters) == set(term) - {'type'}
    assert MODELS.get('mmsharp.MaskSearch') is not None
