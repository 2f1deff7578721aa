from pathlib import Path

import pytest
from environment import stamp


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that looks like a clone with a finished environment."""
    for name, text in {
        'requirements/runtime.txt': 'numpy\n',
        'setup.py': '',
        'mmsharp/version.py': "__version__ = '1'\n",
        'configs/a.py': '',
        '.venv/bin/python': '',
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / 'mmsharp' / '.mim').mkdir()
    (tmp_path / 'mmsharp' / '.mim' / 'configs').symlink_to('../../configs')
    (tmp_path / '.venv/bin/python').chmod(0o755)
    complete(tmp_path)
    return tmp_path


def complete(root: Path) -> None:
    value = {'fingerprint': stamp.fingerprint(root), 'identity': stamp.identity(root)}
    stamp.write(root / '.venv' / stamp.STAMP, value)


def is_complete(root: Path) -> bool:
    return stamp.is_complete(root, root / '.venv')


def test_a_stamp_holds_for_what_it_was_made_from(clone: Path) -> None:
    """Nothing changed: complete."""
    assert is_complete(clone)


@pytest.mark.parametrize('name', ['requirements/runtime.txt', 'setup.py', 'mmsharp/version.py'])
def test_a_changed_source_ends_it_and_the_old_content_revives_it(clone: Path, name: str) -> None:
    """The stamp depends on content alone, not on times."""
    before = (clone / name).read_text()
    (clone / name).write_text(before + '# changed\n')
    assert not is_complete(clone)
    (clone / name).write_text(before)
    assert is_complete(clone)


def test_a_new_requirement_file_ends_it(clone: Path) -> None:
    """A file that is added counts like one that is changed."""
    (clone / 'requirements' / 'more.txt').write_text('')
    assert not is_complete(clone)


@pytest.mark.parametrize('text', ['', '{"fingerprint": ', '[]'])
def test_a_cut_off_stamp_is_no_stamp(clone: Path, text: str) -> None:
    """What is not a whole JSON object never counts as complete."""
    (clone / '.venv' / stamp.STAMP).write_text(text)
    assert not is_complete(clone)


def test_a_missing_python_or_config_link_ends_it(clone: Path) -> None:
    """The stamp alone does not make an environment whose Python or packaged configs are gone."""
    (clone / 'mmsharp' / '.mim' / 'configs').unlink()
    assert not is_complete(clone)
    (clone / 'mmsharp' / '.mim' / 'configs').symlink_to('../../configs')
    assert is_complete(clone)
    (clone / '.venv' / 'bin' / 'python').unlink()
    assert not is_complete(clone)


def test_a_moved_clone_is_neither_complete_nor_ours(clone: Path) -> None:
    """An environment holds absolute paths, so a move ends it."""
    stamp.write(clone / '.venv' / stamp.MARKER, dict(stamp.identity(clone)))
    assert stamp.is_ours(clone, clone / '.venv')
    moved = clone.with_name('moved')
    clone.rename(moved)
    assert not is_complete(moved)
    assert not stamp.is_ours(moved, moved / '.venv')
