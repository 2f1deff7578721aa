"""A folder is replaced as a whole or not at all."""

import copy
import fcntl
import os
from pathlib import Path

import pytest
import torch
from deployed_training import FILES, load, relative, training_config
from mmengine.runner import Runner
from torch import nn

from mmsharp import files
from mmsharp.engine.deployment.deploy import deploy
from mmsharp.engine.deployment.files import LOCK, STAGING
from mmsharp.errors import MmsharpError
from mmsharp.pruning import count_parameters


def test_deploying_twice_replaces_and_leaves_nothing_beside(trained, tmp_path):
    """The second checkpoint's files, and no temporary ones."""
    for epoch in (2, 4):
        deploy(trained.config, trained.path(epoch), tmp_path, repeats=1)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    slim = load(tmp_path)
    assert count_parameters(slim) == count_parameters(trained.model)


def test_a_write_that_fails_leaves_the_old_files(trained, tmp_path, monkeypatch):
    """A full disk while the weights are written: the earlier deployment is as it was, without temporary files."""
    deploy(trained.config, trained.path(2), tmp_path, repeats=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(content, path) -> None:
        path.write_bytes(b'half')
        raise OSError('No space left on device')

    monkeypatch.setattr(torch, 'save', fail)
    with pytest.raises(OSError, match='No space'):
        deploy(trained.config, trained.path(4), tmp_path, repeats=1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class Killed(BaseException):
    """Nothing in the code under test catches it."""


def contents(folder) -> dict:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize('moment', range(len(FILES)))
def test_a_kill_amid_the_exchange_leaves_no_mixture(trained, images, tmp_path, monkeypatch, moment):
    """Wherever it comes, there is no config beside files of another; the same call again completes the folder."""
    folder = tmp_path / 'slim'
    deploy(trained.config, trained.path(2), folder, repeats=1)
    (folder / 'notes.txt').write_text('mine')
    exchanged, replace = [], os.replace

    def kill(source, target) -> None:
        if Path(target).parent == folder:
            if len(exchanged) == moment:
                raise Killed
            exchanged.append(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', kill)
        with pytest.raises(Killed):
            deploy(trained.config, trained.path(4), folder, repeats=1)
    assert 'config.py' not in contents(folder)
    (folder / STAGING).mkdir()
    (folder / STAGING / 'config.py').write_text('what a kill leaves')
    deploy(trained.config, trained.path(4), folder, repeats=1)
    assert {path.name for path in folder.iterdir()} == {*FILES, 'notes.txt'}
    assert relative(trained.model, load(folder), images) < 1e-5


def test_what_cannot_be_written_is_refused_before_anything_is(trained, tmp_path):
    """A class that no file can name, or an object that no text stands for; the folder is not made."""

    class Local(nn.Module):
        pass

    for value, words in (
        (dict(type=Local), r'extra\.part\.type=.*Local'),
        (object(), r'written as text|cannot be read'),
    ):
        config = copy.deepcopy(trained.config)
        config.extra = dict(part=value)
        with pytest.raises(MmsharpError, match=words):
            deploy(config, trained.path(4), tmp_path / 'slim', repeats=1)
        assert not (tmp_path / 'slim').exists()


def test_two_calls_on_one_folder_do_not_destroy_each_other(tmp_path, monkeypatch):
    """The second is refused while the first lives; what a dead one left is swept away."""
    Runner.from_cfg(training_config(tmp_path / 'run')).train()
    path = sorted((tmp_path / 'run').glob('*.pth'))[-1]
    left = tmp_path / 'out' / f'{STAGING}.{os.getppid()}'  # the number lives, and is somebody else's
    left.mkdir(parents=True)
    with open(tmp_path / 'out' / LOCK, 'w') as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(MmsharpError, match='another process'):
            deploy(training_config(tmp_path / 'run'), str(path), tmp_path / 'out', repeats=1)
        assert left.exists()
    with monkeypatch.context() as without_locks:
        without_locks.setattr(files, 'fcntl', None)
        deploy(training_config(tmp_path / 'run'), str(path), tmp_path / 'out', repeats=1)
    assert left.exists()  # nobody can know whose it is
    deploy(training_config(tmp_path / 'run'), str(path), tmp_path / 'out', repeats=1)
    assert {found.name for found in (tmp_path / 'out').iterdir()} == FILES
