"""Trainings of experiments are alone in their folders, and what they cost is known whatever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from mmsharp.errors import MmsharpError
from mmsharp.files import hold

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
SPIN = 'import sys, time\nwhile time.process_time() < float(sys.argv[1]): pass'
KILLED = """
import sys
from pathlib import Path
from mmsharp.files import hold
sys.path.insert(0, sys.argv[1])
from experiments import training
training.SECONDS = 0.05
folder = Path(sys.argv[2])
program = 'import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(300)'
with open(folder / 'log', 'w') as log, open(folder / 'lock', 'w') as lock:
    hold(lock, 'taken')
    training.run_timed([sys.executable, '-c', program, str(folder / 'pid')], log, folder / 'seconds.json', lock)
"""


@pytest.fixture
def training(benchmark):
    """The module, which stands beside the others."""
    return benchmark('experiments.training')


def test_what_a_training_costs_is_added_to_what_there_was(training, tmp_path):
    """Seconds of the clock and of the processors, and the exit status."""
    clock = tmp_path / 'seconds.json'
    clock.write_text('[100.0, 50.0]')
    with open(tmp_path / 'log', 'w') as log, open(tmp_path / 'lock', 'w') as lock:
        assert training.run_timed([sys.executable, '-c', SPIN, '0.3'], log, clock, lock) == 0
        assert training.run_timed([sys.executable, '-c', 'raise SystemExit(3)'], log, clock, lock) == 3
    seconds, cpu_seconds = training.read_clock(clock)
    assert seconds > 100.3
    assert 50.3 <= cpu_seconds < 60
    assert training.read_clock(tmp_path / 'nothing.json') is None


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_training_ends_with_its_experiment_and_its_time_is_known(training, tmp_path, how):
    """However that is ended, and nobody else is told; then the folder is free."""
    if sys.platform != 'linux' and how != signal.SIGINT:
        pytest.skip('only Linux tells a process that its parent was killed')
    clock, pid = tmp_path / 'seconds.json', tmp_path / 'pid'
    runner = subprocess.Popen([sys.executable, '-c', KILLED, str(BENCHMARKS), str(tmp_path)], start_new_session=True)
    try:
        wait_for(lambda: pid.is_file() and pid.read_text() and (training.read_clock(clock) or [0])[0] > 0.2)
        with open(tmp_path / 'lock', 'w') as lock, pytest.raises(MmsharpError, match='taken'):
            hold(lock, 'taken')
        runner.send_signal(how)
        runner.wait(timeout=300)
        wait_for(lambda: not psutil.pid_exists(int(pid.read_text())))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(runner.pid, signal.SIGKILL)
    assert json.loads(clock.read_text())[0] > 0.2
    with open(tmp_path / 'lock', 'w') as lock:
        assert hold(lock, 'taken')


def wait_for(condition):
    """Until it holds, for as long as a loaded machine may take."""
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_two_experiments_do_not_train_in_one_folder(benchmark, training, tmp_path):
    """The second is refused at once, and touches nothing."""
    performing, runs = benchmark('experiments.performing'), benchmark('experiments.runs')
    base = BENCHMARKS.parent / 'configs' / 'magnitude' / 'resnet20_cifar10.py'
    config = runs.configure(runs.Setting(base, {}, ''), runs.Run('SGD', 'Magnitude', 0.4, 0))
    with open(tmp_path / '.lock', 'w') as lock:
        assert hold(lock, '')
        with pytest.raises(MmsharpError, match=r'a training is under way in .*wait for it'):
            performing.train(config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['.lock']


def test_a_training_of_unknown_cost_is_named(benchmark, tmp_path):
    """Where somebody has removed its clock."""
    performing, runs = benchmark('experiments.performing'), benchmark('experiments.runs')
    base = BENCHMARKS.parent / 'configs' / 'magnitude' / 'resnet20_cifar10.py'
    config = runs.configure(runs.Setting(base, {}, ''), runs.Run('SGD', 'Magnitude', 0.4, 0))
    (tmp_path / 'asked.py').write_text(config.pretty_text)
    performing.last_checkpoint(config, tmp_path).touch()
    with pytest.raises(MmsharpError, match=r'no time is known \(seconds\.json\)'):
        performing.train(config, tmp_path)


def test_records_are_written_one_after_the_other(benchmark, tmp_path):
    """A second process waits, and says so where it waits for too long."""
    alone = benchmark('experiments.record').alone
    with alone(tmp_path / '.lock'):
        second = alone(tmp_path / '.lock', patience=0.05)
        with pytest.raises(MmsharpError, match=r'beside .* for 0\.05 seconds'):
            second.__enter__()
    with alone(tmp_path / '.lock', patience=0.0):
        pass
