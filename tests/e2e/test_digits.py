"""From a converter to scores on corrupted images, by the commands that the README prints, on very little data."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmsharp.engine.checkpoints.safe_checkpoint import check_checkpoint
from mmsharp.engine.pruning.pruning_state import PruningState

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs/adasap'

TRAINING = (
    'load_from=None',
    'train_cfg.max_epochs=2',
    'train_dataloader.batch_size=4',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
    'val_dataloader.dataset.indices=4',
    'default_hooks.pruning.warmup=0.2',
    'default_hooks.pruning.pruning=0.4',
    'default_hooks.pruning.interval=1',
    'default_hooks.logger.interval=1',
)
"""Two short epochs: the first ends with masks, the second on the slim network."""

CLASSIFIER = (
    *TRAINING,
    f'train_dataloader.dataset.indices=[{",".join(str(index) for index in range(0, 960, 30))}]',
    f'test_dataloader.dataset.indices=[{",".join(str(index) for index in range(0, 240, 4))}]',
)
DETECTOR = TRAINING

FLOPS = dict(mmdet=('--num-images', 2), mmpretrain=('--shape', 32))
"""The toolboxes' own counters of operations: mmdet's takes the first images of the config's data."""


def toolbox_tool(name: str, tool: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f'{name} is not installed')
    return Path(spec.origin).parent / '.mim/tools' / tool


def metrics(work_dir: Path) -> dict[str, float]:
    """What a test tool logged last, without the times."""
    [path] = work_dir.glob('*/*.json')
    values = json.loads(path.read_text())
    return {key: value for key, value in values.items() if not key.endswith('time')}


def kind(path: Path) -> str:
    return PruningState.from_checkpoint(check_checkpoint(path)).kind


def run_all(command, folder: Path, name: str, toolbox: str, options: tuple[str, ...]) -> dict:
    """Train, slim, test by our tool and by the toolbox's own, evaluate robustness; the robustness summary."""
    command('tools/train.py', CONFIGS / f'{name}.py', '--work-dir', 'run', '--cfg-options', *options, cwd=folder)
    assert [kind(folder / f'run/epoch_{epoch}.pth') for epoch in (1, 2)] == ['masked', 'slim']

    printed = command(
        'tools/slim.py', CONFIGS / f'{name}.py', 'run/epoch_2.pth', '--out', 'slim', '--repeats', 2,
        '--cfg-options', *options, cwd=folder,
    ).stdout  # fmt: skip
    report = json.loads((folder / 'slim/slim.json').read_text())
    assert report['slim']['parameters'] <= 0.4 * report['dense']['parameters']
    assert report['slim']['macs'] < report['dense']['macs']
    for word in ('parameters', 'MACs', 'latency', f'{report["slim"]["parameters"]:,}'):
        assert word in printed

    # From another folder: the recipe lies beside the config, only the data are found from the current one.
    deployed = ('slim/config.py', 'slim/slim.pth')
    command('tools/test.py', *deployed, '--work-dir', 'ours', cwd=folder)
    command(toolbox_tool(toolbox, 'test.py'), *deployed, '--work-dir', 'theirs', cwd=folder)
    assert metrics(folder / 'ours') == metrics(folder / 'theirs')
    counted = command(toolbox_tool(toolbox, 'analysis_tools/get_flops.py'), deployed[0], *FLOPS[toolbox], cwd=folder)
    assert 'Params: ' in counted.stdout
    command(
        'tools/test.py', CONFIGS / f'{name}.py', 'run/epoch_2.pth', '--work-dir', 'unslimmed',
        '--cfg-options', *options, cwd=folder,
    )  # fmt: skip
    assert metrics(folder / 'unslimmed') == metrics(folder / 'ours')

    # The toolbox's own tools with the ordinary config: its hook gives the model the shapes of the checkpoint.
    own = ('--cfg-options', *options)
    # mmpretrain's tool lets `load_from` of the options win over the checkpoint that it is given.
    tested = ('--cfg-options', *(option for option in options if not option.startswith('load_from')))
    command(
        toolbox_tool(toolbox, 'test.py'), CONFIGS / f'{name}.py', 'run/epoch_2.pth', '--work-dir', 'plain', *tested,
        cwd=folder,
    )  # fmt: skip
    assert metrics(folder / 'plain') == metrics(folder / 'ours')
    for epoch in (1, 2):
        resumed = folder / f'resumed_{epoch}'
        resumed.mkdir()
        shutil.copy(folder / f'run/epoch_{epoch}.pth', resumed)
        (resumed / 'last_checkpoint').write_text(str(resumed / f'epoch_{epoch}.pth'))
        command(
            toolbox_tool(toolbox, 'train.py'), CONFIGS / f'{name}.py', '--work-dir', resumed, '--resume',
            *own, 'train_cfg.max_epochs=3', cwd=folder,
        )  # fmt: skip
        assert kind(resumed / 'epoch_3.pth') == 'slim'

    command('tools/export.py', *deployed, '--out', 'slim/model.onnx', cwd=folder)
    assert (folder / 'slim/model.onnx').stat().st_size < (folder / 'slim/slim.pth').stat().st_size * 1.5

    grid = ('--corruptions', 'gaussian_noise', 'fog', '--severities', 2, '--show-samples', 1)
    command('tools/test_robust.py', *deployed, *grid, '--work-dir', 'robust', cwd=folder)
    assert (folder / 'robust/report.html').stat().st_size > 1000
    return json.loads((folder / 'robust/summary.json').read_text())


@pytest.fixture
def folder(tmp_path, digits):
    """An empty folder from which ``data/`` is seen."""
    (tmp_path / 'data').symlink_to(digits / 'data')
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_classifier_from_its_config_to_a_robustness_report(folder, command):
    """mmpretrain's ResNet-18 on real digits: masked, slim, deployed, and measured on corrupted images."""
    summary = run_all(command, folder, 'resnet18_digits', 'mmpretrain', CLASSIFIER)
    assert summary['metric'] == 'accuracy/top1'
    assert summary['images'] == 60


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_detector_from_its_config_to_a_robustness_report(folder, command):
    """mmdet's YOLOv3-MobileNetV2 on Digits-VOC: the same, with the same commands."""
    summary = run_all(command, folder, 'yolov3_mobilenetv2_digits-voc', 'mmdet', DETECTOR)
    assert 'mAP' in summary['metric']
    assert summary['images'] == 6


def test_mixed_precision_on_a_cpu_stays_sharpness_aware(tmp_path, digits, command):
    """--amp in a config of ours trains in bfloat16, through pruning and slimming."""
    (tmp_path / 'data').symlink_to(digits / 'data')
    narrow = ('model.backbone.base_channels=8', 'model.backbone.stem_channels=8', 'model.head.in_channels=64')
    config = CONFIGS / 'resnet18_digits.py'
    options = ('--cfg-options', *CLASSIFIER, *narrow)
    printed = command('tools/train.py', config, '--amp', '--work-dir', 'run', *options, cwd=tmp_path)
    assert 'sharpness/loss_gap' in printed.stdout + printed.stderr
    checkpoint = check_checkpoint(tmp_path / 'run' / 'epoch_2.pth')
    assert PruningState.from_checkpoint(checkpoint).kind == 'slim'
    assert all(value.isfinite().all() for value in checkpoint['state_dict'].values())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_training_goes_on(folder, command):
    """SIGKILL after the first checkpoint; the same command with --resume finishes what was begun."""
    arguments = [str(CONFIGS / 'yolov3_mobilenetv2_digits-voc.py'), '--work-dir', 'run', '--resume']
    arguments += ['--cfg-options', *DETECTOR]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / 'tools/train.py'), *arguments],
        cwd=folder,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not (folder / 'run/last_checkpoint').exists():
            assert process.poll() is None, 'training ended before it wrote a checkpoint'
            assert time.monotonic() < deadline, 'no checkpoint in two minutes'
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (folder / 'run/epoch_2.pth').exists()
    finished = command('tools/train.py', *arguments, cwd=folder)
    assert 'resumed epoch: 1' in finished.stdout + finished.stderr
    assert kind(folder / 'run/epoch_2.pth') == 'slim'
