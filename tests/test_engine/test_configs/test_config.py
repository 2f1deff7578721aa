"""What the tools make of a config, and what they refuse."""

import logging

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from real_models import packaged

from mmsharp.engine.configs.config import (
    check_data,
    load_config,
    settle_amp,
    settle_auto_scale_lr,
    settle_dataloaders,
    settle_launcher,
    settle_resume,
    settle_work_dir,
)
from mmsharp.engine.optim_wrappers import AmpOptimWrapper, AmpSAMOptimWrapper, SAMOptimWrapper
from mmsharp.errors import MmsharpError


def write(path, text):
    path.write_text(text)
    return path


def test_overrides_are_merged(tmp_path):
    """--cfg-options change the config that the tool sees."""
    path = write(tmp_path / 'small.py', "model = dict(type='A', depth=18)")
    assert load_config(path, {'model.depth': 50}).model.depth == 50


def test_a_base_that_imports_something_is_read(tmp_path):
    """MMEngine takes such a base for a pure-Python config, and refuses it below a text config."""
    write(tmp_path / 'base.py', "import torch.nn\n\nmodel = dict(type='A', depth=18)")
    path = write(tmp_path / 'small.py', "_base_ = './base.py'\nmodel = dict(width=3)")
    assert load_config(path).model == dict(type='A', depth=18, width=3)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('model = dict(', 'cannot be read'),
        ("_base_ = 'missing.py'", r'missing\.py'),
        ("custom_imports = dict(imports=['no_such_module'])\nmodel = dict(type='A')", 'no_such_module'),
        ('a = 1', 'no `model`'),
        ("model = 'ResNet'", 'no `model`'),
        ('from mmengine.config import read_base\nwith read_base():\n    from .missing import *', 'ConfigParsingError'),
        ('from mmengine.config import read_base\nwith open(__file__):\n    pass', 'ConfigParsingError'),
        ("model = dict(type='A', width=1 / 0)", 'ZeroDivisionError'),
        ("raise RuntimeError('line one\\nline two')", 'RuntimeError: line one line two'),
        ('assert False', 'AssertionError'),
        ('model = [].model', 'AttributeError'),
        ('from no_such_module import Network\nmodel = dict(type=Network)', 'no_such_module'),
        ('from torch.nn import NoSuchLayer\nmodel = dict(parts=[dict(type=NoSuchLayer)])', 'NoSuchLayer'),
    ],
)
def test_configs_that_cannot_be_read_are_named(tmp_path, text, words):
    """The file and the reason, in one line."""
    path = write(tmp_path / 'broken.py', text)
    with pytest.raises(MmsharpError, match=words) as caught:
        load_config(path)
    assert 'broken.py' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_overrides_that_do_not_fit_are_refused(tmp_path):
    """An index into a list that is too short."""
    path = write(tmp_path / 'small.py', "model = dict(type='A', parts=[1])")
    with pytest.raises(MmsharpError, match='cfg-options'):
        load_config(path, {'model.parts.7': 1})


def test_work_dir_follows_command_line_then_config_then_name(tmp_path, monkeypatch):
    """The order that mm users know."""
    monkeypatch.chdir(tmp_path)
    config = Config(dict())
    settle_work_dir(config, 'configs/a_b.py', None)
    assert config.work_dir == 'work_dirs/a_b'
    settle_work_dir(config, 'configs/a_b.py', str(tmp_path / 'mine'))
    assert config.work_dir == str(tmp_path / 'mine')
    (tmp_path / 'file').write_text('')
    with pytest.raises(MmsharpError, match='work directory'):
        settle_work_dir(config, 'a.py', str(tmp_path / 'file' / 'below'))


def test_resume_flag(tmp_path):
    """Nothing, auto without and with a checkpoint, or a path."""
    config = Config(dict(load_from='dense.pth', work_dir=str(tmp_path)))
    settle_resume(config, None)
    assert (config.get('resume'), config.load_from) == (None, 'dense.pth')
    settle_resume(config, 'auto')
    assert (config.resume, config.load_from) == (False, 'dense.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    settle_resume(config, 'auto')
    assert (config.resume, config.load_from) == (False, 'dense.pth')
    torch.save(dict(state_dict={}, meta=dict(epoch=1, iter=1)), tmp_path / 'epoch_1.pth')
    settle_resume(config, 'auto')
    assert (config.resume, config.load_from) == (True, str(tmp_path / 'epoch_1.pth'))
    settle_resume(config, 'epoch_3.pth')
    assert (config.resume, config.load_from) == (True, 'epoch_3.pth')


def test_resume_in_the_config_is_auto(tmp_path):
    """Unless it names the checkpoint."""
    torch.save(dict(state_dict={}, meta=dict(epoch=1, iter=1)), tmp_path / 'epoch_1.pth')
    config = Config(dict(resume=True, work_dir=str(tmp_path)))
    settle_resume(config, None)
    assert (config.resume, config.load_from) == (True, str(tmp_path / 'epoch_1.pth'))
    config = Config(dict(resume=True, load_from='epoch_3.pth', work_dir=str(tmp_path)))
    settle_resume(config, None)
    assert (config.resume, config.load_from) == (True, 'epoch_3.pth')


@pytest.mark.parametrize(
    ('before', 'after'),
    [
        ('OptimWrapper', 'AmpOptimWrapper'),
        ('mmsharp.SAMOptimWrapper', 'mmsharp.AmpSAMOptimWrapper'),
        ('mmsharp.AmpSAMOptimWrapper', 'mmsharp.AmpSAMOptimWrapper'),
        (OptimWrapper, 'AmpOptimWrapper'),
        (SAMOptimWrapper, 'mmsharp.AmpSAMOptimWrapper'),
        (AmpSAMOptimWrapper, 'mmsharp.AmpSAMOptimWrapper'),
        ('mmsharp.AmpOptimWrapper', 'mmsharp.AmpOptimWrapper'),
        (AmpOptimWrapper, 'mmsharp.AmpOptimWrapper'),
    ],
)
def test_amp_keeps_sharpness_awareness(monkeypatch, before, after):
    """The toolboxes' own train.py writes AmpOptimWrapper over whatever was there."""
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    config = Config(dict(optim_wrapper=dict(type=before, ascent=dict(type='SAM'))))
    settle_amp(config)
    assert config.optim_wrapper.type == after
    assert config.optim_wrapper.loss_scale == 'dynamic'


@pytest.mark.parametrize('kind', ['OptimWrapper', 'AmpOptimWrapper', OptimWrapper, 'mmsharp.AmpOptimWrapper', None])
def test_plain_mixed_precision_without_a_gpu_is_ours(monkeypatch, kind):
    """In bfloat16, where MMEngine's wrapper refuses."""
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    config = Config(dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1), **({'type': kind} if kind else {}))))
    settle_amp(config)
    assert config.optim_wrapper.type == 'mmsharp.AmpOptimWrapper'
    wrapper = build_optim_wrapper(torch.nn.Linear(1, 1), config.optim_wrapper)
    assert wrapper.cast_dtype == torch.bfloat16


def test_amp_refuses_what_it_does_not_know(monkeypatch):
    """A wrapper whose mixed-precision kin is unknown, and float16 without a GPU."""
    with pytest.raises(MmsharpError, match='ApexOptimWrapper'):
        settle_amp(Config(dict(optim_wrapper=dict(type='ApexOptimWrapper'))))
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    settings = dict(type='AmpOptimWrapper', dtype='float16', optimizer=dict(type='SGD', lr=0.1))
    config = Config(dict(optim_wrapper=settings))
    settle_amp(config)
    with pytest.raises(MmsharpError, match="dtype='float16' needs an accelerator"):
        build_optim_wrapper(torch.nn.Linear(1, 1), config.optim_wrapper)


def test_auto_scale_lr_needs_a_base_batch_size():
    """Scaling from an unknown batch size would be a guess."""
    with pytest.raises(MmsharpError, match='base_batch_size'):
        settle_auto_scale_lr(Config(dict()))
    config = Config(dict(auto_scale_lr=dict(base_batch_size=16, enable=False)))
    settle_auto_scale_lr(config)
    assert config.auto_scale_lr.enable


def test_classification_loaders_get_their_collate_function():
    """As mmpretrain's own tools do; a choice in the config stays."""
    config = Config(dict(default_scope='mmpretrain', train_dataloader=dict(num_workers=0), test_dataloader=None))
    settle_dataloaders(config)
    assert config.train_dataloader.collate_fn.type == 'default_collate'
    assert config.train_dataloader.persistent_workers is False


def test_missing_data_is_named_with_its_place_in_the_config(tmp_path):
    """Also inside dataset wrappers, and annotation files."""
    inner = dict(type='VOCDataset', data_root=str(tmp_path / 'voc'), ann_file='test.txt')
    config = dict(train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dict(type='C', datasets=[inner]))))
    with pytest.raises(MmsharpError, match=r'train_dataloader\.dataset\.dataset\.datasets\.0\.data_root'):
        check_data(config)
    (tmp_path / 'voc').mkdir()
    with pytest.raises(MmsharpError, match=r"ann_file='test\.txt' does not exist"):
        check_data(config)
    (tmp_path / 'voc' / 'test.txt').write_text('')
    check_data(config)


@pytest.mark.parametrize(
    ('prefix', 'key'),
    [
        (dict(img='images/', seg='masks/'), 'data_prefix.seg'),
        (dict(sub_data_root='VOC2007/'), 'data_prefix.sub_data_root'),
        (dict(img_path='train'), 'data_prefix.img_path'),
        ('train', 'data_prefix'),
    ],
)
@pytest.mark.parametrize('rooted', [True, False])
def test_a_missing_folder_of_images_is_named(tmp_path, monkeypatch, prefix, key, rooted):
    """Relative to the root where there is one, as mmdet and mmpretrain write it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'images').mkdir()
    dataset = dict(type='Any', data_prefix=prefix, **(dict(data_root=str(tmp_path)) if rooted else {}))
    with pytest.raises(MmsharpError, match=rf'test_dataloader\.dataset\.{key}=.* does not exist') as caught:
        check_data(dict(test_dataloader=dict(dataset=dataset)))
    assert f'--cfg-options test_dataloader.dataset.{key}=' in str(caught.value)
    for folder in ('masks', 'VOC2007', 'train'):
        (tmp_path / folder).mkdir()
    check_data(dict(test_dataloader=dict(dataset=dataset)))


def test_what_is_elsewhere_or_made_later_is_not_looked_for():
    """Remote storage, empty prefixes, and data sets that download what is missing."""
    for dataset in (
        dict(type='CocoDataset', data_root='s3://bucket/coco', ann_file='a.json', data_prefix=dict(img='train/')),
        dict(type='CocoDataset', ann_file='s3://bucket/a.json', data_prefix=dict(img='s3://bucket/train/')),
        dict(type='CustomDataset', data_prefix='', ann_file=''),
        dict(type='CIFAR10', data_prefix='nowhere'),
        dict(type='CIFAR100', data_root='nowhere', split='train'),
        dict(type='mmpretrain.MNIST', data_root='nowhere', download=True),
    ):
        check_data(dict(train_dataloader=dict(dataset=dataset)))


def test_what_may_not_be_downloaded_is_looked_for(tmp_path):
    """A data set that is told download=False is as any other."""
    dataset = dict(type='CIFAR10', data_root=str(tmp_path / 'cifar10'), split='train', download=False)
    with pytest.raises(MmsharpError, match=r'train_dataloader\.dataset\.data_root=.* does not exist'):
        check_data(dict(train_dataloader=dict(dataset=dataset)))
    (tmp_path / 'cifar10').mkdir()
    check_data(dict(train_dataloader=dict(dataset=dataset)))


@pytest.mark.parametrize('path', ['_base_/datasets/cifar10_bs16.py', '_base_/datasets/cifar100_bs16.py'])
def test_stock_configs_that_download_pass(path, tmp_path, monkeypatch):
    """mmpretrain's own, before anything has been downloaded."""
    monkeypatch.chdir(tmp_path)
    check_data(packaged('mmpretrain', path))


def test_launchers_without_a_gpu(monkeypatch):
    """Only torchrun's environment will do; SyncBN becomes BN, and DDP is told of no device."""
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    monkeypatch.delenv('RANK', raising=False)
    for launcher, words in (('slurm', 'GPUs'), ('pytorch', 'torchrun')):
        with pytest.raises(MmsharpError, match=words):
            settle_launcher(Config(dict(model={})), launcher)
    monkeypatch.setenv('RANK', '0')
    joined = []
    monkeypatch.setattr('torch.distributed.init_process_group', joined.append)
    monkeypatch.setattr('atexit.register', joined.append)
    kinds = ('SyncBN', 'MMSyncBN', 'mmengine.SyncBN', torch.nn.SyncBatchNorm)
    model = dict(backbone=dict(norm_cfg=dict(type='SyncBN')), necks=[dict(norm_cfg=dict(type=kind)) for kind in kinds])
    config = Config(dict(model=model))
    lines = []
    monkeypatch.setattr(
        'mmsharp.engine.configs.config.print_log', lambda message, logger, level: lines.append((message, level))
    )
    settle_launcher(config, 'pytorch')
    assert lines == [('SyncBN does not run on CPUs and becomes BN', logging.WARNING)]
    settle_launcher(config, 'pytorch')
    assert len(lines) == 1  # nothing is left to become BN
    norms = [config.model.backbone.norm_cfg, *(neck.norm_cfg for neck in config.model.necks)]
    assert [norm.type for norm in norms] == ['BN'] * 5
    assert config.model_wrapper_cfg.device_ids is None
    assert joined[0] == 'gloo'


def test_imagenet_v2_takes_the_place_of_another_set(tmp_path):
    """Its folders alone are read, whatever annotation file and prefix the config of ImageNet names beside them."""
    dataset = dict(type='mmsharp.ImageNetV2', data_root=str(tmp_path), ann_file='meta/val.txt', data_prefix='val')
    check_data(dict(test_dataloader=dict(dataset=dataset)))
    with pytest.raises(MmsharpError, match="data_root='nowhere' does not exist"):
        check_data(dict(test_dataloader=dict(dataset={**dataset, 'data_root': 'nowhere'})))
    with pytest.raises(MmsharpError, match="data_prefix='val' does not exist"):
        check_data(dict(test_dataloader=dict(dataset={**dataset, 'ann_file': '', 'type': 'ImageNet'})))
