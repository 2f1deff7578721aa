import sys
from pathlib import Path

import pytest
from environment import folders, installation, stamp


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of its own for set-up to look at."""
    monkeypatch.setattr(folders, 'ROOT', tmp_path)
    monkeypatch.setattr(folders, 'VENV', tmp_path / '.venv')
    monkeypatch.setattr(folders, 'PYTHON', tmp_path / '.venv' / 'bin' / 'python')
    monkeypatch.setattr(folders, 'WORK', tmp_path / '.setup')
    (tmp_path / '.setup').mkdir()
    return tmp_path


def begin(root: Path, works: bool) -> None:
    """Leave what a killed set-up leaves: the marker, and if it came so far an environment with pip."""
    (root / '.venv').mkdir()
    stamp.write(root / '.venv' / stamp.MARKER, dict(stamp.identity(root)))
    if works:
        pip = root / '.venv' / 'lib' / f'python{sys.version_info[0]}.{sys.version_info[1]}' / 'site-packages' / 'pip'
        pip.mkdir(parents=True)
        (pip / '__main__.py').write_text('')
        (root / '.venv' / 'bin').mkdir()
        (root / '.venv' / 'bin' / 'python').symlink_to(sys.executable)


def test_nothing_there_means_from_the_start(root: Path) -> None:
    """Without a .venv there is nothing to continue."""
    assert installation.clear_the_way() is False


def test_an_unfinished_environment_is_continued_and_reported(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What has a working pip goes on."""
    begin(root, works=True)
    assert installation.clear_the_way() is True
    assert 'unfinished' in capsys.readouterr().out


def test_an_environment_without_pip_is_made_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was killed before pip was there is removed."""
    begin(root, works=False)
    assert installation.clear_the_way() is False
    assert not (root / '.venv').exists()
    assert 'making it again' in capsys.readouterr().out


def test_a_stranger_is_moved_aside_and_not_deleted(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A .venv that set-up did not make may hold somebody's work."""
    (root / '.venv').mkdir()
    (root / '.venv' / 'precious').write_text('mine')
    assert installation.clear_the_way() is False
    (aside,) = root.glob('.venv.before-mmsharp-*')
    assert (aside / 'precious').read_text() == 'mine'
    assert aside.name in capsys.readouterr().out


def test_an_old_stamp_is_withdrawn_before_anything_changes(root: Path) -> None:
    """A killed update must not look complete when the files that it started from come back."""
    begin(root, works=True)
    stamp.write(root / '.venv' / stamp.STAMP, {'fingerprint': 'old'})
    assert installation.clear_the_way() is True
    assert not (root / '.venv' / stamp.STAMP).exists()


def test_a_complete_environment_costs_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a valid stamp no step runs."""
    monkeypatch.setattr(stamp, 'is_complete', lambda root, venv: True)
    monkeypatch.setattr(installation, 'install_all', lambda locks: pytest.fail('a step ran'))
    installation.set_up()


def test_a_failed_step_leaves_no_stamp(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stamp is written after the last step or not at all."""

    def fail(locks: tuple[int, ...]) -> None:
        (root / '.venv').mkdir()
        raise installation.SetUpError('no network')

    monkeypatch.setattr(installation, 'install_all', fail)
    with pytest.raises(installation.SetUpError, match='no network'):
        installation.set_up()
    assert not (root / '.venv' / stamp.STAMP).exists()
