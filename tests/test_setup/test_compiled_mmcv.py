from pathlib import Path
from typing import Any

import pytest
from environment import compiled_mmcv, folders
from environment.compiled_mmcv import Target, read_target
from environment.errors import SetUpError

RECORD: dict[str, object] = {
    'python': 'cp311',
    'torch': '2.11.0+cu130',
    'platform': 'linux-x86_64',
    'gpu': True,
    'torch_cuda': '13.0',
    'toolkit': '13.2',
}


@pytest.mark.parametrize(
    ('change', 'cuda'),
    [({}, True), ({'gpu': False}, False), ({'toolkit': ''}, False), ({'toolkit': '12.8'}, False)],
)
def test_cuda_operators_need_a_gpu_and_a_matching_toolkit(change: dict[str, object], cuda: bool) -> None:
    """Every other machine compiles for the CPU instead of failing."""
    assert read_target({**RECORD, **change}).cuda is cuda


def test_wheels_of_different_torches_do_not_meet() -> None:
    """The cache folder differs with Python, torch, platform and CUDA."""
    base = Target('cp311', '2.11.0', 'linux-x86_64', False)
    others = [
        Target('cp312', '2.11.0', 'linux-x86_64', False),
        Target('cp311', '2.12.0', 'linux-x86_64', False),
        Target('cp311', '2.11.0', 'linux-aarch64', False),
        Target('cp311', '2.11.0', 'linux-x86_64', True),
    ]
    assert len({target.tag for target in (base, *others)}) == 5


def test_jobs_follow_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """One job per 1.5 GiB, at least one, and the user's MAX_JOBS above all."""
    monkeypatch.delenv('MAX_JOBS', raising=False)
    monkeypatch.setattr(compiled_mmcv, 'available_memory', lambda: 2.0 * 2**30)
    assert compiled_mmcv.job_count() == 1
    monkeypatch.setattr(compiled_mmcv, 'available_memory', lambda: 0.0)
    assert compiled_mmcv.job_count() == 1
    monkeypatch.setenv('MAX_JOBS', '7')
    assert compiled_mmcv.job_count() == 7


class Machine:
    """Stands for pip and the compiler: wheels whose content is ``good`` work."""

    def __init__(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = cache
        self.compiled = 0
        self.of_pip: list[Path] = []
        self.installed: list[str] = []
        monkeypatch.delenv(compiled_mmcv.WHEELS_VARIABLE, raising=False)
        monkeypatch.setattr(folders, 'user_cache', lambda: cache)
        monkeypatch.setattr(folders, 'WORK', cache)
        monkeypatch.setattr(compiled_mmcv, 'is_installed', lambda locks: False)
        monkeypatch.setattr(compiled_mmcv, 'run_step', self.probe)
        monkeypatch.setattr(compiled_mmcv, 'install_wheel', self.install)
        monkeypatch.setattr(compiled_mmcv, 'wheels_of_pip', lambda target, locks: self.of_pip)
        monkeypatch.setattr(compiled_mmcv, 'compile_wheel', self.compile)

    @property
    def shelf(self) -> Path:
        return self.cache / 'wheels' / 'cp311-torch2.11.0-linux-x86_64-cpu'

    def probe(self, *_: Any, **__: Any) -> str:
        return (
            'a warning of torch\n{"python": "cp311", "torch": "2.11.0", "platform": "linux-x86_64", "gpu": false, '
            '"torch_cuda": "13.0", "toolkit": ""}\n'
        )

    def install(self, wheel: Path, locks: tuple[int, ...]) -> bool:
        self.installed.append(wheel.read_text())
        return wheel.read_text() == 'good'

    def compile(self, target: Target, cache: Path, locks: tuple[int, ...]) -> Path:
        self.compiled += 1
        return wheel_in(cache / 'build' / target.tag / 'wheels', 'good')


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def wheel_in(folder: Path, content: str) -> Path:
    """Write a file with the name that a wheel of the pinned mmcv has."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f'{compiled_mmcv.requirement().replace("==", "-").replace("-mmcv", "_mmcv")}-cp311-cp311-linux.whl'
    wheel.write_text(content)
    return wheel


def test_a_compiled_wheel_serves_the_next_clone(machine: Machine) -> None:
    """The second call compiles nothing, and the build folder is gone after the first."""
    compiled_mmcv.install_mmcv(())
    compiled_mmcv.install_mmcv(())
    assert machine.compiled == 1
    assert machine.installed == ['good', 'good']
    assert not list((machine.cache / 'build').iterdir())


def test_a_broken_wheel_in_the_cache_is_replaced(machine: Machine) -> None:
    """A wheel whose operators do not run is removed and compiled anew."""
    broken = wheel_in(machine.shelf, 'broken')
    compiled_mmcv.install_mmcv(())
    assert machine.compiled == 1
    assert broken.read_text() == 'good'


def test_a_wheel_of_pip_is_kept_if_it_works(machine: Machine, tmp_path: Path) -> None:
    """pip's wheel saves the compilation; one for another torch does not get in."""
    machine.of_pip = [wheel_in(tmp_path / 'a', 'for another torch'), wheel_in(tmp_path / 'b', 'good')]
    compiled_mmcv.install_mmcv(())
    assert machine.compiled == 0
    assert [path.read_text() for path in machine.shelf.glob('*.whl')] == ['good']


def test_a_given_wheel_wins_and_a_broken_one_ends_set_up(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the user names is used or refused by name, never silently replaced."""
    monkeypatch.setenv(compiled_mmcv.WHEELS_VARIABLE, str(wheel_in(tmp_path / 'given', 'good')))
    compiled_mmcv.install_mmcv(())
    assert machine.compiled == 0
    monkeypatch.setenv(compiled_mmcv.WHEELS_VARIABLE, str(wheel_in(tmp_path / 'given', 'broken')))
    with pytest.raises(SetUpError, match=r'MMSHARP_MMCV_WHEELS=.*does not work with torch 2.11.0'):
        compiled_mmcv.install_mmcv(())
