"""Laws of the shipped configs, stated over every file in ``configs/``: networks, data, parts and where they start."""

import copy
import inspect
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from celeba_hq_files import write_celeba_hq
from mmengine.config import Config
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.registry import DATASETS, HOOKS, METRICS
from shipped_configs import CONFIGS, DENSE, PRUNED, WHOLE, Name, dense_of, load
from shipped_data import (
    LOADERS,
    mappings,
    relocated,
    write_bccd,
    write_cifar10,
    write_flowers102,
    write_imagenet,
    write_voc,
)

from mmsharp.datasets.digits_folder import DigitsFolder, write_digits_folder
from mmsharp.datasets.digits_voc import DigitsVOC, write_digits_voc
from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.configs.config import check_data, load_config
from mmsharp.engine.hooks import AdaSAPHook, PruningHook, PSAPHook
from mmsharp.engine.optim_wrappers import SharpnessAware
from mmsharp.pruning import ChannelPruner
from mmsharp.registry import ASCENTS, build_part
from mmsharp.sharpness import AdaSAP

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

TOOLBOX = re.compile(r"^_base_ = (?:\[?)'((?:mmdet|mmpretrain)::.*?)'", re.MULTILINE)
STOCK = [name for name in DENSE if TOOLBOX.search((CONFIGS / name).read_text()) and 'ssd512_r50' not in name]
"""Whose network is one of the toolbox's; that of SSD512 with ResNet-50 is put together here."""
FROM_SCRATCH = [name for name in DENSE if 'voc0712' not in name]
PUBLISHED = {f'{network}_cifar10.py': f'data/{network}_cifar10.pth' for network in ('resnet20', 'resnet56')}
"""Where pruning starts from weights that were published, and the dense config shows how they were trained."""
LARGEST = 320 * 240 * 3
"""Numbers in an image that a network is tried on here; larger ones are only loaded."""


def own_arguments(kind: type) -> set[str]:
    """What a class takes by name."""
    named = inspect.signature(kind).parameters.values()
    return {part.name for part in named if part.kind not in (part.VAR_POSITIONAL, part.VAR_KEYWORD)}


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """The folder ``data`` as the converters write it, small."""
    folder = tmp_path_factory.mktemp('data')
    list(write_digits_voc(folder / 'digits_voc', DigitsVOC(train=4, val=2, test=2)))
    list(write_digits_folder(folder / 'digits_folder', DigitsFolder(copies=1)))
    write_bccd(folder / 'bccd' / 'BCCD')
    write_cifar10(folder / 'cifar10')
    write_voc(folder / 'VOCdevkit')
    write_imagenet(folder / 'imagenet')
    write_flowers102(folder / 'flowers102')
    write_celeba_hq(folder / 'celeba_hq')
    return folder


@pytest.mark.parametrize('name', WHOLE)
def test_nothing_is_downloaded(name):
    """What is loaded, an earlier command has written; but the backbones of detectors on VOC start from ImageNet."""
    config = load(name)
    backbone = config.model.pop('backbone')
    assert all(part.get('type') != 'Pretrained' and 'checkpoint' not in part for part in mappings(config.model))
    if dense_of(name) in FROM_SCRATCH:
        assert all(part.get('type') != 'Pretrained' and 'checkpoint' not in part for part in mappings(backbone))
    assert '://' not in str(config.get('load_from') or '')


@pytest.mark.parametrize('name', STOCK)
def test_the_network_is_the_toolbox_s_own(name, tmp_path):
    """Of the packaged model only classes, initialisation, a classifier's loss and MobileNetV2's strides change."""
    [base] = TOOLBOX.findall((CONFIGS / name).read_text())
    ours, stock = load(name).model, _stock(base, tmp_path)
    exchanged = {'num_classes', 'init_cfg', 'zero_init_residual', 'pad_size_divisor', 'loss', 'topk'}
    for theirs, mine in zip(mappings(stock), mappings(ours)):
        for key in exchanged & set(mine):
            theirs[key] = mine[key]
        if mine.get('type') == 'mmsharp.CIFARMobileNetV2':
            assert theirs['type'] == 'MobileNetV2'
            theirs['type'] = mine['type']
    assert ours == stock


def _stock(base: str, folder: Path) -> Any:
    (folder / 'stock.py').write_text(f'_base_ = {base!r}\n')
    return Config.fromfile(folder / 'stock.py').model


def test_ssd512_has_another_backbone_and_is_mmdet_s_otherwise(tmp_path):
    """The maps have the channels of VGG-16's, so that neck and head stay; normalised layers need no L2 norm."""
    ours = load('dense/ssd512_r50_voc0712.py').model
    stock = _stock('mmdet::pascal_voc/ssd512_voc0712.py', tmp_path)
    assert ours.backbone.type == 'ResNet'
    stock.backbone = ours.backbone
    stock.data_preprocessor.std = ours.data_preprocessor.std
    stock.neck.update(l2_norm_scale=None, norm_cfg=dict(type='SyncBN', requires_grad=True))
    stock.bbox_head.type = 'mmsharp.SSDHead'
    assert ours == stock


@pytest.mark.parametrize('name', DENSE)
def test_data_reach_the_network(name, data):
    """Every split loads; where images are small, the network learns from a batch of one and predicts on the others."""
    config = relocated(load(name), data)
    check_data(config, LOADERS)
    model = None
    collate = default_collate if config.default_scope == 'mmpretrain' else pseudo_collate
    for loader in LOADERS:
        dataset = DATASETS.build(copy.deepcopy(config[loader].dataset))
        assert len(dataset) >= 2
        if 'classes' in config:
            assert dataset.metainfo['classes'] == tuple(config.classes)
        samples = [dataset[0], dataset[1]]
        if samples[0]['inputs'].numel() > LARGEST:
            continue
        model = model or _initialised(config)
        training = loader.startswith('train')
        batch = model.data_preprocessor(collate(samples), training)
        model.train(training)
        if training:
            loss, _ = model.parse_losses(model(**batch, mode='loss'))
            loss.backward()
            assert torch.isfinite(loss)
            # From scratch: no stage frozen, no statistics held.
            assert all(parameter.requires_grad for parameter in model.parameters())
            assert all(module.training for module in model.modules())
        else:
            with torch.no_grad():
                assert len(model(**batch, mode='predict')) == 2


def _initialised(config: Config) -> Any:
    model = build_model(config)
    logging.disable(logging.WARNING)
    try:
        model.init_weights()
    finally:
        logging.disable(logging.NOTSET)
    return model


@pytest.mark.parametrize('name', WHOLE)
def test_evaluators_and_hooks_build(name):
    """Metrics, hooks and, where the config is sharpness-aware, the ascent."""
    config = load(name)
    for key in ('val_evaluator', 'test_evaluator'):
        METRICS.build(copy.deepcopy(config[key]))
    own = [settings for kind, settings in config.default_hooks.items() if kind != 'visualization']  # wants a runner
    for settings in [*own, *config.get('custom_hooks', [])]:
        HOOKS.build({key: value for key, value in settings.items() if key != 'priority'})  # the runner's
    if 'ascent' in config.optim_wrapper:
        build_part(ASCENTS, config.optim_wrapper.ascent)
    assert config.default_hooks.checkpoint.max_keep_ckpts >= 1
    assert config.auto_scale_lr.base_batch_size >= 1


@pytest.mark.parametrize('name', DENSE)
def test_building_does_not_change_the_config(name):
    """As the tools build it: twice the same shapes from one config, which stays as it was read."""
    config = load(name)
    before = copy.deepcopy(config._cfg_dict)
    shapes = [[tuple(p.shape) for p in build_model(config).parameters()] for _ in range(2)]
    assert shapes[0] == shapes[1]
    assert config._cfg_dict == before


@pytest.mark.parametrize('name', PRUNED)
def test_pruned_configs_differ_from_their_dense_one_in_training_alone(name):
    """Same model, data and evaluation: the comparison is one of methods."""
    config, dense = load(name), load(dense_of(name))
    for key in ('model', 'val_evaluator', 'test_evaluator', *LOADERS):
        assert config[key] == dense[key], key
    for key in ('data_preprocessor', 'robustness', 'randomness'):
        assert config.get(key) == dense.get(key), key
    assert config.custom_imports == dict(imports=['mmsharp'], allow_failed_imports=False)


@pytest.mark.parametrize('name', PRUNED)
def test_pruned_configs_start_where_dense_training_ends(name):
    """The checkpoint that they load is the last one that the dense config writes, or published weights, or none."""
    if Name.of(name).scratch:
        assert load(name).get('load_from') is None
        return
    last = load(dense_of(name)).train_cfg.max_epochs
    network = Path(dense_of(name)).name
    found = load(name).load_from
    assert found == PUBLISHED.get(network, found)
    assert Path(found).name == f'epoch_{last}.pth' or found in PUBLISHED.values()
    if 'in1k' in name or 'voc0712' in name:
        assert Path(found).parent == Path('work_dirs/dense') / Path(network).stem


@pytest.mark.parametrize('name', [name for name in STOCK if 'digits' in name or 'bccd' in name])
def test_the_method_can_be_inherited(name, tmp_path):
    """``_base_/adasap.py`` beside a whole config, merged by the two lines that its head names; it has all settings."""
    path = tmp_path / 'heir.py'
    path.write_text(
        f'_base_ = [{str(CONFIGS / name)!r}, {str(CONFIGS / "_base_/adasap.py")!r}]\n'
        'optim_wrapper = {{_base_.adasap_optim_wrapper}}\n'
        'default_hooks = {{_base_.adasap_hooks}}\n'
    )
    config, dense = load_config(path), load(name)
    assert config.optim_wrapper.type == 'mmsharp.SAMOptimWrapper'
    assert config.optim_wrapper.optimizer == dense.optim_wrapper.optimizer
    assert set(config.default_hooks) == {*dense.default_hooks, 'pruning'}
    assert own_arguments(SharpnessAware) < set(config.optim_wrapper)
    assert set(config.optim_wrapper.ascent) == {'type', *own_arguments(AdaSAP)}
    assert vars(build_part(ASCENTS, config.optim_wrapper.ascent)) == vars(AdaSAP())
    assert config.optim_wrapper.policy == dict(type='EveryStep')
    for setting in own_arguments(SharpnessAware) - {'ascent', 'policy'}:
        assert config.optim_wrapper[setting] is inspect.signature(SharpnessAware).parameters[setting].default
    hook = config.default_hooks.pruning
    assert set(hook) == {'type', *own_arguments(AdaSAPHook), *own_arguments(PruningHook)}
    assert set(hook.pruner) == {'type', *own_arguments(ChannelPruner)} - {'budget'}
    written = HOOKS.build(copy.deepcopy(hook))
    plain = HOOKS.build(dict(type='mmsharp.AdaSAPHook', budget=dict(params=0.4)))
    for part in ('criterion', 'allocation', 'schedule'):
        ours, theirs = (getattr(built.pruner, part) for built in (written, plain))
        assert (type(ours), vars(ours)) == (type(theirs), vars(theirs))
    for setting in ('limits', 'ignore', 'latency_table', 'resource', 'target'):
        assert getattr(written.pruner, setting) == getattr(plain.pruner, setting), setting
    for setting in ('warmup', 'pruning', 'interval', 'slim'):
        assert getattr(written, setting) == getattr(plain, setting), setting
    assert vars(written.fine_tuning) == vars(plain.fine_tuning)


@pytest.mark.parametrize('name', [name for name in STOCK if 'digits' in name or 'bccd' in name])
def test_psap_can_be_inherited_alone_and_beside_adasap(name, tmp_path):
    """``_base_/psap.py`` beside a whole config, whose settings are the defaults; and AdaSAP's training around it."""
    path = tmp_path / 'heir.py'
    path.write_text(
        f'_base_ = [{str(CONFIGS / name)!r}, {str(CONFIGS / "_base_/psap.py")!r}]\n'
        'default_hooks = {{_base_.psap_hooks}}\n'
        "optim_wrapper = dict(type='mmsharp.SAMOptimWrapper', ascent=dict(type='AdaSAP'))\n"
    )
    config, dense = load_config(path), load(name)
    assert set(config.default_hooks) == {*dense.default_hooks, 'pruning'}
    assert config.optim_wrapper.optimizer == dense.optim_wrapper.optimizer
    written = HOOKS.build(copy.deepcopy(config.default_hooks.pruning))
    plain = HOOKS.build(dict(type='mmsharp.PSAPHook', budget=dict(macs=0.5)))
    assert set(config.default_hooks.pruning) == {'type', *inspect.signature(PSAPHook).parameters}
    for part in ('criterion', 'allocation', 'schedule'):
        ours, theirs = (getattr(hook.pruner, part) for hook in (written, plain))
        assert type(ours) is type(theirs)
        assert vars(ours) == vars(theirs)
    assert vars(written.protection) == vars(plain.protection)
    parts = {'budget', 'pruner', 'protection', 'fine_tuning'}
    for setting in set(inspect.signature(PSAPHook).parameters) - parts:
        assert getattr(written, setting) == getattr(plain, setting), setting
