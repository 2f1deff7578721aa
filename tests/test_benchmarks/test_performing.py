"""What is trained in a folder is what was asked for there, and a line of a record tells of what code it is."""

import re
import subprocess
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmsharp.errors import MmsharpError

BASE = Path(__file__).parents[2] / 'configs/magnitude/resnet20_cifar10.py'

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


@pytest.fixture
def experiments(benchmark):
    """The names of the parts of the package that stands beside the benchmarks."""
    names = {}
    for part in ('runs', 'performing'):
        names.update(vars(benchmark(f'experiments.{part}')))
    return SimpleNamespace(**names)


def test_a_folder_of_another_config_is_not_gone_on_with(experiments, tmp_path, monkeypatch):
    """The weights there are of other settings; those of the same are taken."""
    run, setting = experiments.Run('SGD', 'Magnitude', 0.4, 0), experiments.Setting(BASE, {}, '')
    config, other = (experiments.configure(setting, one) for one in (run, replace(run, seed=1)))
    started = []

    def train(command, log, clock, lock):
        started.append(command)
        experiments.last_checkpoint(config, tmp_path).touch()
        (tmp_path / 'config.py').write_text('what the runner writes')
        clock.write_text('[3.0, 2.0]')
        return 0

    monkeypatch.setattr('experiments.performing.run_timed', train)
    assert [experiments.train(config, tmp_path) for _ in range(2)] == [(3.0, 2.0)] * 2
    with pytest.raises(MmsharpError, match=r'has a training by another config.*remove the folder'):
        experiments.train(other, tmp_path)
    (tmp_path / 'asked.py').unlink()
    with pytest.raises(MmsharpError, match=r'by one that nobody knows.*remove the folder'):
        experiments.train(config, tmp_path)
    assert len(started) == 1


@pytest.mark.parametrize(
    ('there', 'commits', 'told'),
    [
        ((), ['one'], 'one'),
        ((), ['one', 'one'], 'one'),
        ((), ['one', 'two-dirty', 'one'], 'one, two-dirty'),
        (('asked.py', 'last_checkpoint'), ['two'], None),
        (('asked.py', 'last_checkpoint', 'commit.txt'), ['two'], 'one, two'),
        ((), [None, 'two'], None),
    ],
)
def test_a_line_tells_all_commits_that_trained(experiments, tmp_path, monkeypatch, there, commits, told):
    """And none where one of them is not known, such as that of a training which was begun before they were noted."""
    config = experiments.configure(experiments.Setting(BASE, {}, ''), experiments.Run('SGD', 'Magnitude', 0.4, 0))
    for name in there:
        (tmp_path / name).write_text({'asked.py': config.pretty_text, 'commit.txt': 'one'}.get(name, ''))
    for number, commit in enumerate(commits, start=1):
        finishes = number == len(commits)

        def train(command, log, clock, lock, last=finishes):
            if last:
                experiments.last_checkpoint(config, tmp_path).touch()
            (tmp_path / 'last_checkpoint').touch()
            clock.write_text('[1.0, 1.0]')
            return int(not last)

        monkeypatch.setattr('experiments.performing.run_timed', train)
        monkeypatch.setattr('experiments.performing.commit', lambda commit=commit: commit)
        with nullcontext() if finishes else pytest.raises(MmsharpError, match='start again'):
            experiments.train(config, tmp_path)
    monkeypatch.setattr('experiments.performing.commit', lambda: 'later')
    experiments.train(config, tmp_path)  # finished: nothing trains
    assert experiments.commit_of(tmp_path) == told


def test_a_line_tells_the_commit_of_its_code(experiments, tmp_path, monkeypatch):
    """Records that grow make no other code, changed files do; outside a checkout nobody knows."""
    from experiments import performing

    def git(*command):
        who = ('-c', 'user.name=A', '-c', 'user.email=a@b.c')
        subprocess.run(['git', *who, *command], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(performing, 'ROOT', tmp_path)
    assert performing.commit() is None
    for name in ('benchmarks/results/record.jsonl', 'mmsharp/code.py'):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text('one')
    git('init')
    git('add', '.')
    git('commit', '-m', 'first')
    first = performing.commit()
    assert re.fullmatch('[0-9a-f]{12}', first)
    (tmp_path / 'benchmarks/results/record.jsonl').write_text('two')
    assert performing.commit() == first
    (tmp_path / 'mmsharp/code.py').write_text('two')
    assert performing.commit() == f'{first}-dirty'
