"""Laws of the shipped configs, stated over every file in ``configs/``."""

import copy
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, init_default_scope
from torch import nn

from mmsharp.datasets.cifar10_folder import CLASSES as CIFAR10
from mmsharp.datasets.digits_folder import DigitsFolder, write_digits_folder
from mmsharp.datasets.digits_voc import DigitsVOC, write_digits_voc
from mmsharp.engine import deployment
from mmsharp.engine.config import load_config
from mmsharp.registry import ASCENTS, build_part

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

CONFIGS = Path(__file__).parents[2] / 'configs'
WHOLE = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
DENSE = [name for name in WHOLE if name.startswith('dense/')]
PRUNED = [name for name in WHOLE if not name.startswith('dense/')]
TOOLBOX = re.compile(r"^_base_ = (?:\[?)'((?:mmdet|mmpretrain)::(?!_base_).*?)'", re.MULTILINE)
STOCK = [name for name in DENSE if TOOLBOX.search((CONFIGS / name).read_text())]
PUBLISHED = {'resnet20_cifar10.py': 'data/resnet20_cifar10.pth'}
"""Where pruning starts from weights that were published, and the dense config shows how they were trained."""
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def load(name: str | Path) -> Config:
    config = load_config(CONFIGS / name)
    pytest.importorskip(config.default_scope)
    init_default_scope(config.default_scope)
    return config


def dense_of(name: str) -> str:
    return f'dense/{Path(name).name}'


def mappings(value: Any) -> Iterator[dict]:
    if isinstance(value, dict):
        yield value
        value = value.values()
    if not isinstance(value, (str, bytes)) and hasattr(value, '__iter__'):
        for item in value:
            yield from mappings(item)


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """The folder ``data`` as the converters write it, small."""
    folder = tmp_path_factory.mktemp('data')
    list(write_digits_voc(folder / 'digits_voc', DigitsVOC(train=4, val=2, test=2)))
    list(write_digits_folder(folder / 'digits_folder', DigitsFolder(copies=1)))
    write_bccd(folder / 'bccd' / 'BCCD')
    for split in ('train', 'val', 'test'):
        for label, name in enumerate(CIFAR10):
            (folder / 'cifar10' / split / name).mkdir(parents=True)
            picture = np.full((32, 32, 3), 20 * label, dtype=np.uint8)
            cv2.imwrite(str(folder / 'cifar10' / split / name / '0.png'), picture)
    return folder


def write_bccd(root: Path) -> None:
    """Two images a split, a cell each, in the layout of the real set."""
    for folder in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    for number, split in enumerate(('train', 'train', 'val', 'val', 'test', 'test')):
        name = f'BloodImage_{number:05d}'
        cv2.imwrite(str(root / 'JPEGImages' / f'{name}.jpg'), np.full((480, 640, 3), 200, dtype=np.uint8))
        box = '<xmin>100</xmin><ymin>100</ymin><xmax>300</xmax><ymax>250</ymax>'
        (root / 'Annotations' / f'{name}.xml').write_text(
            '<annotation><size><width>640</width><height>480</height><depth>3</depth></size><object><name>RBC</name>'
            f'<difficult>0</difficult><bndbox>{box}</bndbox></object></annotation>'
        )
        with open(root / 'ImageSets/Main' / f'{split}.txt', 'a') as file:
            file.write(f'{name}\n')


def dataset_of(config: Config, loader: str, data: Path) -> Any:
    settings = copy.deepcopy(config[loader].dataset)
    for part in mappings(settings):
        if 'data_root' in part:
            part['data_root'] = str(data / Path(part['data_root']).relative_to('data')) + '/'
    return DATASETS.build(settings)


def build_model(config: Config) -> nn.Module:
    settings = copy.deepcopy(config.model)
    if 'data_preprocessor' in config:
        settings.setdefault('data_preprocessor', config.data_preprocessor)
    return MODELS.build(settings)


def test_there_are_configs_for_every_method():
    """A detector and a classifier, each dense, pruned by magnitude and by AdaSAP."""
    names = {Path(name).name for name in DENSE}
    assert len(names) >= 2
    assert set(WHOLE) == {f'{method}/{name}' for method in ('dense', 'magnitude', 'adasap') for name in names}


@pytest.mark.parametrize('name', WHOLE)
def test_nothing_is_downloaded(name):
    """No initialisation names a file, on the web or elsewhere; what is loaded, an earlier command has written."""
    config = load(name)
    assert all(part.get('type') != 'Pretrained' and 'checkpoint' not in part for part in mappings(config.model))
    assert '://' not in str(config.get('load_from') or '')


@pytest.mark.parametrize('name', STOCK)
def test_the_network_is_the_toolbox_s_own(name, tmp_path):
    """Of the packaged config's model, only the number of classes and the initialisation are exchanged."""
    [base] = TOOLBOX.findall((CONFIGS / name).read_text())
    (tmp_path / 'stock.py').write_text(f'_base_ = {base!r}\n')
    ours, stock = load(name), load(tmp_path / 'stock.py')
    for theirs, mine in zip(mappings(stock.model), mappings(ours.model)):
        for key in {'num_classes', 'init_cfg', 'zero_init_residual', 'pad_size_divisor'} & set(mine):
            theirs[key] = mine[key]
    assert ours.model == stock.model


@pytest.mark.parametrize('name', DENSE)
def test_data_reach_the_network(name, data):
    """Every split loads; the network learns from a batch of one and predicts on the other two."""
    config = load(name)
    model = build_model(config)
    logging.disable(logging.WARNING)
    try:
        model.init_weights()
    finally:
        logging.disable(logging.NOTSET)
    collate = default_collate if config.default_scope == 'mmpretrain' else pseudo_collate
    for loader in LOADERS:
        dataset = dataset_of(config, loader, data)
        assert len(dataset) >= 2
        if config.default_scope == 'mmdet':
            assert dataset.metainfo['classes'] == tuple(config.classes)
        training = loader.startswith('train')
        batch = model.data_preprocessor(collate([dataset[0], dataset[1]]), training)
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


@pytest.mark.parametrize('name', WHOLE)
def test_evaluators_and_hooks_build(name):
    """Metrics, checkpoints and, where the config prunes, the pruning hook and the ascent."""
    config = load(name)
    for key in ('val_evaluator', 'test_evaluator'):
        METRICS.build(copy.deepcopy(config[key]))
    for kind in {'checkpoint', 'pruning'} & set(config.default_hooks):
        HOOKS.build(copy.deepcopy(config.default_hooks[kind]))
    if 'ascent' in config.optim_wrapper:
        build_part(ASCENTS, config.optim_wrapper.ascent)
    assert config.default_hooks.checkpoint.max_keep_ckpts >= 1


@pytest.mark.parametrize('name', WHOLE)
def test_building_does_not_change_the_config(name):
    """As the tools build it: twice the same shapes from one config, which stays as it was read."""
    config = load(name)
    before = copy.deepcopy(config._cfg_dict)
    shapes = [[tuple(p.shape) for p in deployment.build_model(config).parameters()] for _ in range(2)]
    assert shapes[0] == shapes[1]
    assert config._cfg_dict == before


@pytest.mark.parametrize('name', PRUNED)
def test_pruned_configs_differ_from_their_dense_one_in_training_alone(name):
    """Same model, data and evaluation: the comparison is one of methods."""
    config, dense = load(name), load(dense_of(name))
    for key in ('model', 'val_evaluator', 'test_evaluator', *LOADERS):
        assert config[key] == dense[key], key
    assert config.get('data_preprocessor') == dense.get('data_preprocessor')
    assert config.custom_imports == dict(imports=['mmsharp'], allow_failed_imports=False)


@pytest.mark.parametrize('name', PRUNED)
def test_pruned_configs_start_where_dense_training_ends(name):
    """The checkpoint that they load is the last one that the dense config writes, or published weights."""
    last = load(dense_of(name)).train_cfg.max_epochs
    found = load(name).load_from
    assert found == PUBLISHED.get(Path(name).name, found)
    assert Path(found).name == f'epoch_{last}.pth' or found in PUBLISHED.values()


@pytest.mark.parametrize('name', [name for name in WHOLE if name.startswith('adasap/')])
def test_adasap_and_its_baseline_get_the_same(name):
    """Budget, phases, epochs, optimizer and schedule are equal; only sharpness awareness is added."""
    adasap, baseline = load(name), load(f'magnitude/{Path(name).name}')
    assert adasap.train_cfg == baseline.train_cfg
    assert adasap.param_scheduler == baseline.param_scheduler
    assert adasap.optim_wrapper.optimizer == baseline.optim_wrapper.optimizer
    assert adasap.load_from == baseline.load_from
    ours, theirs = (dict(config.default_hooks.pruning) for config in (adasap, baseline))
    assert (ours.pop('type'), theirs.pop('type')) == ('mmsharp.AdaSAPHook', 'mmsharp.PruningHook')
    ours.pop('fine_tuning', None)
    defaults = dict(warmup=0.1, pruning=0.3)
    assert {**defaults, **ours} == {**defaults, **theirs}
    assert 'ascent' not in baseline.optim_wrapper


@pytest.mark.parametrize('name', STOCK)
def test_the_method_can_be_inherited(name, tmp_path):
    """``_base_/adasap.py`` beside a whole config, merged by the two lines that its head names."""
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
    assert HOOKS.build(copy.deepcopy(config.default_hooks.pruning)).interval == 30
    build_part(ASCENTS, config.optim_wrapper.ascent)
