"""Bad input ends every tool with one line that names it, with status 2, and before anything else is lost."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
import torch

from mmsharp.command_line import run

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
CLASSIFIER = CONFIGS / 'adasap/resnet18_digits.py'
DETECTOR = CONFIGS / 'adasap/yolov3_mobilenetv2_digits-voc.py'

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

SMALL = (
    'load_from=None',
    'train_cfg.max_epochs=2',
    'train_dataloader.batch_size=4',
    'train_dataloader.dataset.indices=8',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'val_dataloader.dataset.indices=4',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
    'test_dataloader.dataset.indices=4',
    'default_hooks.pruning.warmup=0.5',
    'default_hooks.pruning.pruning=0.25',
    'default_hooks.pruning.interval=1',
    'log_level=WARNING',
)
NARROW = ('model.backbone.base_channels=4', 'model.backbone.stem_channels=4', 'model.head.in_channels=32')
"""A classifier of a few thousand parameters."""


class Payload:
    """Unpickling it would leave a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), 'w')


@pytest.fixture
def folder(tmp_path, digits, monkeypatch):
    """The current folder: empty but for ``data/``."""
    (tmp_path / 'data').symlink_to(digits / 'data')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refusal(monkeypatch, capfd):
    """A function that runs a tool in this process, which has to refuse; the line that it printed."""

    def call(tool: str, *arguments) -> str:
        path = ROOT / 'tools' / f'{tool}.py'
        spec = importlib.util.spec_from_file_location(f'tool_{tool}', path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            run(module.main)
        assert caught.value.code == 2
        stderr = capfd.readouterr().err
        assert 'Traceback' not in stderr
        [line] = [line for line in stderr.splitlines() if line.startswith('error: ')]
        assert stderr.rstrip().splitlines()[-1] == line  # the message is one line, and the last
        return line

    return call


@pytest.fixture
def trap(folder):
    """A checkpoint that would run code, and the file that the code would leave."""
    path, marker = folder / 'stranger.pth', folder / 'ran'
    torch.save(dict(meta={}, state_dict=dict(weight=torch.ones(2)), extra=Payload(marker)), path)
    return path, marker


@pytest.mark.parametrize('tool', ['train', 'test', 'slim', 'test_robust'])
def test_a_missing_config(tool, folder, refusal):
    """Every tool names the path and what it takes."""
    more = {'train': [], 'slim': ['x.pth', '--out', 'slim']}.get(tool, ['x.pth'])
    line = refusal(tool, 'missing.py', *more)
    assert 'missing.py' in line
    assert 'give the path' in line


@pytest.mark.parametrize('tool', ['train', 'test', 'test_robust'])
def test_a_missing_data_folder(tool, folder, refusal):
    """Its place in the config is named, and the option that changes it."""
    torch.save(dict(state_dict={}), folder / 'x.pth')
    (folder / 'data').unlink()
    line = refusal(tool, DETECTOR, *([] if tool == 'train' else ['x.pth']))
    assert 'data/digits_voc/VOC2007/' in line
    assert 'does not exist' in line
    assert '.data_root' in line


def test_no_prunable_group(folder, refusal):
    """Everything ignored: the refusal comes at the first iteration, with the reason."""
    line = refusal('train', CLASSIFIER, '--cfg-options', *SMALL, *NARROW, 'default_hooks.pruning.pruner.ignore=["*"]',
                   'default_hooks.pruning.pruner.type=mmsharp.ChannelPruner')  # fmt: skip
    assert 'group' in line


def test_an_unreachable_budget(folder, refusal):
    """The budget is named beside the smallest that can be reached."""
    options = (*SMALL, *NARROW, 'default_hooks.pruning.budget.params=0.00001')
    line = refusal('train', CLASSIFIER, '--cfg-options', *options)
    assert 'params' in line
    assert '1e-05' in line or '0.00001' in line
    assert not list(folder.rglob('*.pth'))


@pytest.mark.parametrize(
    ('option', 'words'),
    [
        ('default_hooks.pruning.warm_up=3', 'warm_up'),
        ('optim_wrapper.accumulative_counts=0', 'accumulative_counts'),
        ('model.backbone.depth=19', 'invalid depth 19'),
        ('optim_wrapper.ascent.type=SAN', 'SAN'),
        ('val_evaluator=None', 'val_evaluator'),
    ],
)
def test_an_argument_that_a_part_refuses(option, words, folder, refusal):
    """The part's own words, and the config that holds it, before training starts."""
    line = refusal('train', CLASSIFIER, '--cfg-options', *SMALL, *NARROW, option)
    assert words in line
    assert not list(folder.rglob('*.pth'))


@pytest.mark.parametrize('name', ['gausian_noise', 'GAUSSIAN'])
def test_an_unknown_corruption(name, folder, refusal):
    """The name is given back beside the accepted ones."""
    line = refusal('test_robust', DETECTOR, 'x.pth', '--corruptions', name)
    assert name in line
    assert 'gaussian_noise' in line


def test_amp_without_mixed_precision_kin(folder, refusal):
    """A wrapper that --amp does not know is refused before anything is built."""
    options = ('--cfg-options', 'optim_wrapper.type=ApexOptimWrapper')
    assert 'ApexOptimWrapper' in refusal('train', CONFIGS / 'dense/resnet18_digits.py', '--amp', *options)


@pytest.mark.parametrize('tool', ['test', 'slim', 'test_robust'])
def test_an_unsafe_checkpoint_on_the_command_line(tool, folder, refusal, trap):
    """Its code does not run, and nothing is written."""
    path, marker = trap
    line = refusal(tool, DETECTOR, path, *(['--out', 'slim'] if tool == 'slim' else []))
    assert 'stranger.pth' in line
    assert not marker.exists()
    assert not (folder / 'slim').exists()


@pytest.mark.parametrize('door', ['load_from', 'resume', 'auto-resume', 'init_cfg'])
def test_an_unsafe_checkpoint_before_training(door, folder, refusal, trap):
    """Loaded, resumed by name, found by auto-resume, or named by an ``init_cfg``: its code does not run."""
    path, marker = trap
    options, flags = list(SMALL), []
    if door == 'load_from':
        options.append(f'load_from={path}')
    elif door == 'resume':
        flags = ['--resume', path]
    elif door == 'auto-resume':
        (folder / 'run').mkdir()
        shutil.copy(path, folder / 'run/epoch_1.pth')
        (folder / 'run/last_checkpoint').write_text(str(folder / 'run/epoch_1.pth'))
        flags = ['--resume']
    else:
        options += ['model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={path}']
    line = refusal('train', CLASSIFIER, '--work-dir', 'run', *flags, '--cfg-options', *options)
    assert ('epoch_1.pth' if door == 'auto-resume' else 'stranger.pth') in line
    assert not marker.exists()


@pytest.mark.parametrize('tool', ['train', 'test', 'slim', 'test_robust'])
def test_a_missing_checkpoint(tool, folder, refusal):
    """Named."""
    more = {'train': ['--resume', 'gone.pth'], 'slim': ['gone.pth', '--out', 'slim']}.get(tool, ['gone.pth'])
    assert 'gone.pth' in refusal(tool, CLASSIFIER, *more, '--cfg-options', *SMALL)


@pytest.mark.parametrize('tool', ['train', 'test', 'test_robust'])
def test_a_checkpoint_that_does_not_fit(tool, folder, refusal):
    """The first parameter that differs is named with both shapes; nothing is evaluated, or trained, from noise."""
    torch.save(dict(state_dict=dict(weight=torch.ones(2)), meta={}), 'other.pth')
    more = [] if tool == 'train' else ['other.pth']
    options = [*SMALL, *NARROW, *(['load_from=other.pth'] if tool == 'train' else [])]
    line = refusal(tool, CLASSIFIER, *more, '--cfg-options', *options)
    assert 'other.pth' in line
    assert 'does not fit' in line
    assert 'expected' in line


@pytest.mark.parametrize('ema', [False, True])
@pytest.mark.parametrize('tool', ['train', 'test', 'test_robust', 'slim'])
def test_a_checkpoint_without_weights(tool, ema, folder, refusal):
    """A file of another framework is named with what it holds, before any hook reads from it."""
    torch.save(dict(model=dict(weight=torch.ones(2)), epoch=3), 'other.pth')
    options = [*SMALL, *NARROW]
    if ema:
        options.append('default_hooks.ema.type=EMAHook')
    more = {'train': [], 'slim': ['other.pth', '--out', 'slim']}.get(tool, ['other.pth'])
    options += ['load_from=other.pth'] if tool == 'train' else []
    line = refusal(tool, CLASSIFIER, *more, '--cfg-options', *options)
    assert 'other.pth' in line
    assert "'model', 'epoch'" in line


def test_weights_alone_are_not_resumed(folder, refusal):
    """They do not say how far training had come."""
    checkpoint = write_checkpoint(CLASSIFIER, folder / 'dense.pth')
    assert 'how far' in refusal('train', CLASSIFIER, '--resume', checkpoint, '--cfg-options', *SMALL)


def test_a_misfit_after_auto_resume_names_the_file(folder, refusal):
    """Not just the folder that it was found in."""
    (folder / 'run').mkdir()
    torch.save(dict(state_dict=dict(weight=torch.ones(2)), meta=dict(epoch=1, iter=2)), folder / 'run/epoch_1.pth')
    line = refusal('train', CLASSIFIER, '--work-dir', 'run', '--resume', '--cfg-options', *SMALL, *NARROW)
    assert 'run/epoch_1.pth' in line
    assert 'does not fit' in line


@pytest.fixture
def broken(folder, digits):
    """Digits-VOC in which every test and training image has lost its end; one of their names."""
    (folder / 'data').unlink()
    shutil.copytree(digits / 'data/digits_voc', folder / 'data/digits_voc')
    images = sorted((folder / 'data/digits_voc/VOC2007/JPEGImages').iterdir())
    for image in images:
        image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    return images[0].parent.name


@pytest.mark.parametrize('tool', ['train', 'test', 'test_robust'])
@pytest.mark.parametrize('kind', ['coco', 'voc'])
def test_broken_annotations(tool, kind, broken, folder, refusal):
    """The file is named, where the parser says only at which column it stopped."""
    checkpoint = write_checkpoint(DETECTOR, folder / 'x.pth')
    options = list(SMALL)
    if kind == 'coco':
        path = folder / 'data/coco.json'
        path.write_text('{"images": [')
        for loader in ('train', 'test'):
            options += [f'{loader}_dataloader.dataset.type=CocoDataset',
                        f'{loader}_dataloader.dataset.ann_file={path}']  # fmt: skip
    else:
        for path in (folder / 'data/digits_voc/VOC2007/Annotations').iterdir():
            path.write_text('<annotation><size>')
    line = refusal(tool, DETECTOR, *([] if tool == 'train' else [checkpoint]), '--cfg-options', *options)
    assert 'annotations ' in line
    assert ('coco.json' if kind == 'coco' else 'Annotations') in line


@pytest.mark.parametrize('tool', ['train', 'test', 'test_robust'])
def test_a_missing_folder_of_images(tool, folder, refusal):
    """No image is broken; the place in the config is named."""
    checkpoint = write_checkpoint(DETECTOR, folder / 'x.pth')
    options = [f'{name}_dataloader.dataset.data_prefix.sub_data_root=elsewhere' for name in ('train', 'test')]
    line = refusal(tool, DETECTOR, *([] if tool == 'train' else [checkpoint]), '--cfg-options', *SMALL, *options)
    assert "data_prefix.sub_data_root='elsewhere' does not exist" in line


@pytest.mark.parametrize('workers', [0, 1])
def test_a_truncated_image_in_training(workers, broken, refusal):
    """Decoders turn it into a picture with a grey lower part; training names it instead, also from a worker."""
    line = refusal('train', DETECTOR, '--cfg-options', *SMALL, f'train_dataloader.num_workers={workers}')
    assert broken in line
    assert '.jpg' in line


def test_a_truncated_image_in_testing(broken, folder, refusal):
    """Named, with what to do."""
    checkpoint = write_checkpoint(DETECTOR, folder / 'x.pth')
    line = refusal('test', DETECTOR, checkpoint, '--cfg-options', *SMALL)
    assert broken in line
    assert '.jpg' in line


def test_a_truncated_image_in_robust_evaluation(broken, folder, refusal):
    """Named with its cell."""
    checkpoint = write_checkpoint(DETECTOR, folder / 'x.pth')
    grid = ('--corruptions', 'fog', '--severities', 1)
    line = refusal('test_robust', DETECTOR, checkpoint, *grid, '--cfg-options', *SMALL)
    assert broken in line
    assert 'fog/1' in line


def write_checkpoint(config: Path, path: Path) -> Path:
    """Random weights that fit."""
    from mmsharp.engine.configs.building_model import build_model
    from mmsharp.engine.configs.config import load_config

    torch.save(dict(state_dict=build_model(load_config(config)).state_dict(), meta={}), path)
    return path
