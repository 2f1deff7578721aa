from pathlib import Path

import pytest
from environment import prerequisites
from environment.errors import SetUpError


def test_the_apt_line_names_all_that_is_missing_and_nothing_else() -> None:
    """Each missing thing brings its own Debian package, of this very Python."""
    missing = prerequisites.missing_packages((3, 12), venv=False, compiler=False, headers=False)
    assert list(missing.values()) == ['python3.12-venv', 'g++', 'python3.12-dev']
    assert prerequisites.missing_packages((3, 12), venv=True, compiler=True, headers=True) == {}


def test_a_missing_compiler_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line: what is missing and what to type."""
    monkeypatch.setattr(prerequisites, 'has_venv', lambda: True)
    monkeypatch.setattr(prerequisites, 'has_headers', lambda: True)
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(SetUpError, match=r'lacks a C\+\+ compiler .*sudo apt install g\+\+$'):
        prerequisites.check_machine()


def test_a_prebuilt_mmcv_needs_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a given wheel nothing is compiled, so nothing is demanded for it."""
    monkeypatch.setattr(prerequisites, 'has_venv', lambda: True)
    monkeypatch.setattr(prerequisites, 'has_headers', lambda: False)
    monkeypatch.setenv('CXX', 'no-such-compiler')
    prerequisites.check_machine(compile_mmcv=False)


def test_a_compiler_that_rejects_cpp17_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that is there but fails is another message than a missing one."""
    for name in ('has_venv', 'has_headers'):
        monkeypatch.setattr(prerequisites, name, lambda: True)
    monkeypatch.setenv('CXX', 'false')
    with pytest.raises(SetUpError, match="'false' rejects"):
        prerequisites.check_machine()


def test_a_full_disk_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Free and needed space are both named."""
    monkeypatch.setattr(prerequisites, 'NEEDED_SPACE', 10**18)
    with pytest.raises(SetUpError, match='GB free; set-up needs 1000000000 GB'):
        prerequisites.check_space(tmp_path)
