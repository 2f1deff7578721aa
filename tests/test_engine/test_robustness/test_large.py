"""The laws of an evaluation over the whole benchmark, through the command that users type; run by `make bench`."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmengine.config import Config

from mmsharp.robustness import load_results

TOOL = Path(__file__).parents[3] / 'tools' / 'test_robust.py'
CELLS = 76
KILLS = 10

pytestmark = [
    pytest.mark.large,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings('ignore'),  # the toolboxes warn of their own optional parts
]


def _values(folder):
    return {cell: result.metrics for cell, result in load_results(folder)[1].items()}


def _command(model, folder, *more, workers=0, launcher=()):
    config, checkpoint = model
    changed = Config(config.to_dict())
    changed.test_dataloader.num_workers = workers
    path = folder.with_suffix(f'.{workers}.py')
    changed.dump(path)
    start = launcher or (sys.executable,)
    return [*start, str(TOOL), str(path), str(checkpoint), '--work-dir', str(folder), '--samples', '0', *more]


def _run(command):
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert finished.returncode == 0, finished.stderr


@pytest.fixture(scope='module')
def undisturbed(detector, tmp_path_factory):
    """The whole benchmark in one process, without workers."""
    folder = tmp_path_factory.mktemp('large') / 'whole'
    _run(_command(detector, folder))
    assert len(_values(folder)) == CELLS
    return _values(folder)


@pytest.mark.parametrize('workers', [0, 2])
def test_killed_at_random_moments_it_ends_like_an_undisturbed_run(detector, undisturbed, tmp_path, workers):
    """SIGKILL, also while it starts; finished lines stay byte by byte, and none is repeated."""
    command = _command(detector, tmp_path / 'killed', workers=workers)
    moments, lines, before = random.Random(workers), tmp_path / 'killed' / 'results.jsonl', b''
    for _ in range(KILLS):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(1, 15))
        process.kill()
        process.wait()
        found = lines.read_bytes() if lines.exists() else b''
        assert found.startswith(before[: before.rfind(b'\n') + 1])
        before = found
    _run(command)
    assert lines.read_bytes().startswith(before[: before.rfind(b'\n') + 1])
    assert lines.read_bytes().count(b'\n') == CELLS
    assert _values(tmp_path / 'killed') == undisturbed


def test_two_processes_give_the_values_of_one(detector, undisturbed, tmp_path):
    """Under torchrun, with gloo; the batches are other ones here, and the images are of one size."""
    launcher = (sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2', '--master_port=29613')
    _run(_command(detector, tmp_path / 'two', '--launcher', 'pytorch', launcher=launcher))
    found = _values(tmp_path / 'two')
    assert set(found) == set(undisturbed)
    for cell, metrics in found.items():
        assert metrics == pytest.approx(undisturbed[cell], abs=1e-6), str(cell)


def test_workers_and_the_order_of_cells_change_nothing(detector, undisturbed, tmp_path):
    """Living workers, and a grid that is asked for in parts."""
    command = _command(detector, tmp_path / 'parts', workers=2)
    for part in (['--corruptions', 'weather', '--severities', '5', '1'], ['--corruptions', 'digital', 'noise']):
        _run([*command, *part])
    _run(command)
    assert _values(tmp_path / 'parts') == undisturbed
