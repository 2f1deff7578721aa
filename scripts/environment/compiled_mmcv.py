"""Bring mmcv with its compiled operators into ``.venv``: from a wheel if one works, by compiling it otherwise.

Wheels are tried in this order, each one installed and then proven by running its operators: those that
``MMSHARP_MMCV_WHEELS`` names, the one that set-up kept in the user's cache, one that pip kept. pip's own cache does not
know which torch a wheel was compiled against, so nothing is trusted by its name.

Compiling happens in a folder of the user's cache that survives an interruption: ninja goes on with the files that are
missing.
"""

import json
import math
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from environment import folders
from environment.errors import SetUpError
from environment.lock import exclusive
from environment.running import run_step

WHEELS_VARIABLE = 'MMSHARP_MMCV_WHEELS'
CPU_MINUTES = 17
BYTES_PER_JOB = 1.5 * 2**30
PIP: tuple[str | Path, ...] = (folders.PYTHON, '-m', 'pip')


@dataclass(frozen=True)
class Target:
    """What a compiled mmcv must fit."""

    python: str
    torch: str
    platform: str
    cuda: bool

    @property
    def tag(self) -> str:
        """Name of the cache folder, one per combination that needs its own wheel."""
        return f'{self.python}-torch{self.torch}-{self.platform}-{"cuda" if self.cuda else "cpu"}'


def read_target(record: dict[str, object]) -> Target:
    """Turn the record of ``inside/probe_torch.py`` into a target; CUDA only where GPU and toolkit fit torch.

    Args:
        record: Keys ``python``, ``torch``, ``platform``, ``gpu``, ``torch_cuda``, ``toolkit``.
    """
    toolkit, wanted = str(record['toolkit']), str(record['torch_cuda'])
    fits = bool(record['gpu']) and bool(toolkit) and toolkit.partition('.')[0] == wanted.partition('.')[0]
    if record['gpu'] and not fits:
        print(
            f'      note: torch sees a GPU, but there is no CUDA {wanted} compiler (nvcc; found: {toolkit or "none"}). '
            'mmcv gets its operators for the CPU only.'
        )
    return Target(str(record['python']), str(record['torch']), str(record['platform']), fits)


def job_count() -> int:
    """Return how many files to compile at once: the cores, fewer where memory is short, or ``$MAX_JOBS``."""
    if os.environ.get('MAX_JOBS', '').isdigit():
        return max(1, int(os.environ['MAX_JOBS']))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return max(1, min(cores, int(available_memory() // BYTES_PER_JOB)))


def available_memory() -> float:
    """Return the bytes of memory that can be used, infinite where the system does not say."""
    try:
        for line in Path('/proc/meminfo').read_text().splitlines():
            if line.startswith('MemAvailable:'):
                return float(line.split()[1]) * 1024
    except OSError:
        pass
    return math.inf


def requirement() -> str:
    """Return the pinned requirement of ``requirements/mmcv.txt``, such as ``onedl-mmcv==2.3.6``."""
    lines = (folders.REQUIREMENTS / 'mmcv.txt').read_text(encoding='utf-8').splitlines()
    return next(line.strip() for line in lines if line.strip() and not line.startswith('#'))


def install_wheel(wheel: Path, locks: tuple[int, ...]) -> bool:
    """Install ``wheel`` and run its operators; take it out again and return False when it does not work."""
    constraints = folders.REQUIREMENTS / 'constraints.txt'
    try:
        command = (*PIP, 'install', '--no-index', '--no-deps', '--force-reinstall', '-c', constraints, wheel)
        run_step('install mmcv', command, 'mmcv', locks, quiet=True)
        program = (folders.PYTHON, folders.INSIDE / 'verify_mmcv.py')
        run_step('run the operators of mmcv', program, 'mmcv', locks, quiet=True)
    except SetUpError:
        name = requirement().partition('==')[0]
        run_step('remove mmcv', (*PIP, 'uninstall', '--yes', name), 'mmcv', locks)
        return False
    return True


def given_wheels(source: str, folder: Path, locks: tuple[int, ...]) -> list[Path]:
    """Return the wheel that ``MMSHARP_MMCV_WHEELS`` leads to.

    Args:
        source: A wheel, a folder of wheels, or the URL of a page that links to wheels.
        folder: Where to put a downloaded wheel.
        locks: File descriptors of the locks that the commands inherit.

    Raises:
        SetUpError: If it leads to no wheel of the pinned version for this Python.
    """
    path = Path(source).expanduser()
    if path.suffix == '.whl' and path.is_file():
        return [path.resolve()]
    where = str(path.resolve()) if path.is_dir() else source
    command = (*PIP, 'download', '--no-deps', '--only-binary', ':all:', '--no-index', '--find-links', where)
    try:
        run_step('fetch the given mmcv wheel', (*command, '--dest', folder, requirement()), 'mmcv', locks)
    except SetUpError as error:
        raise SetUpError(
            f'{WHEELS_VARIABLE}={source!r} leads to no wheel of {requirement()} for this Python; expected a wheel, '
            'a folder of wheels or the URL of a page that links to them. Unset it to compile mmcv here'
        ) from error
    return sorted(folder.glob('*.whl'))


def wheels_of_pip(target: Target, locks: tuple[int, ...]) -> list[Path]:
    """Return the wheels of the pinned mmcv for this Python that pip built earlier."""
    name, _, version = requirement().partition('==')
    pattern = f'{name.replace("-", "_")}-{version}-{target.python}-*'
    try:
        output = run_step(
            'ask pip', (*PIP, 'cache', 'list', '--format', 'abspath', pattern), 'pip_cache', locks, quiet=True
        )
    except SetUpError:
        return []
    return [Path(line) for line in output.splitlines() if line.endswith('.whl') and Path(line).is_file()]


def fetch_source(build: Path, locks: tuple[int, ...]) -> Path:
    """Return the unpacked source distribution in ``build``; what an earlier call left there is used."""
    name = requirement().replace('==', '-').replace('onedl-mmcv', 'onedl_mmcv')
    source = build / name
    if source.is_dir():
        return source
    build.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as temporary:
        command = (*PIP, 'download', '--no-deps', '--no-build-isolation', '--no-binary', ':all:')
        run_step('fetch the source of mmcv', (*command, '--dest', temporary, requirement()), 'mmcv', locks)
        archive = next(Path(temporary).glob('*.tar.gz'))
        with tarfile.open(archive) as file:
            file.extractall(temporary)
        os.replace(Path(temporary) / archive.name.removesuffix('.tar.gz'), source)
    return source


def compile_wheel(target: Target, cache: Path, locks: tuple[int, ...]) -> Path:
    """Compile mmcv, continuing what was interrupted, and return the finished wheel."""
    build = cache / 'build' / target.tag
    resumed = any(build.glob('*/build/temp*/**/*.o'))
    jobs = job_count()
    environment = {'MMCV_WITH_OPS': '1', 'MAX_JOBS': str(jobs)}
    if target.cuda:
        environment['FORCE_CUDA'] = '1'
    else:
        environment |= {'FORCE_CUDA': '0', 'CUDA_VISIBLE_DEVICES': ''}
    minutes = math.ceil(CPU_MINUTES / jobs)
    how = 'going on with an interrupted build' if resumed else f'about {minutes} minutes on {jobs} core(s)'
    print(f'      compiling {requirement()} against torch {target.torch}: {how}', flush=True)
    source = fetch_source(build, locks)
    output = build / 'wheels'
    command = (*PIP, 'wheel', '--verbose', '--no-deps', '--no-build-isolation', '--wheel-dir', output, source)
    try:
        run_step('compile mmcv', command, 'mmcv', locks, environment)
    except SetUpError:
        if not resumed:
            raise
        print('      the interrupted build cannot be continued; compiling from the start', flush=True)
        shutil.rmtree(build)
        return compile_wheel(target, cache, locks)
    return next(output.glob('*.whl'))


def keep(wheel: Path, folder: Path) -> Path:
    """Copy ``wheel`` into ``folder`` in one step and return the copy."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f'.{os.getpid()}.part'
    shutil.copyfile(wheel, temporary)
    os.replace(temporary, folder / wheel.name)
    return folder / wheel.name


def is_installed(locks: tuple[int, ...]) -> bool:
    """Say whether the pinned mmcv is in ``.venv`` and its operators run."""
    name = requirement().replace('==', '-').replace('onedl-', 'onedl_')
    if not list(folders.VENV.glob(f'lib/python*/site-packages/{name}.dist-info')):
        return False
    try:
        program = (folders.PYTHON, folders.INSIDE / 'verify_mmcv.py')
        run_step('run the operators of mmcv', program, 'mmcv', locks, quiet=True)
    except SetUpError:
        return False
    return True


def install_mmcv(locks: tuple[int, ...]) -> None:
    """Install mmcv with operators that were seen to work.

    Args:
        locks: File descriptors of the locks that the commands inherit.

    Raises:
        SetUpError: If the given wheels do not work, or compiling fails.
    """
    if is_installed(locks):
        print('      it is there and works')
        return
    probe = run_step('look at torch', (folders.PYTHON, folders.INSIDE / 'probe_torch.py'), 'mmcv', locks)
    target = read_target(json.loads(probe.splitlines()[-1]))
    source = os.environ.get(WHEELS_VARIABLE, '').strip()
    if source:
        with tempfile.TemporaryDirectory(dir=folders.WORK) as folder:
            if any(install_wheel(wheel, locks) for wheel in given_wheels(source, Path(folder), locks)):
                print(f'      took the wheel that {WHEELS_VARIABLE} names')
                return
        raise SetUpError(f'the mmcv wheel of {WHEELS_VARIABLE}={source!r} does not work with torch {target.torch}; '
                         'its log: .setup/logs/mmcv.log. Unset the variable to compile mmcv here')  # fmt: skip
    cache = folders.user_cache()
    shelf = cache / 'wheels' / target.tag
    with exclusive(cache / f'{target.tag}.lock', 'another set-up that compiles mmcv') as cache_lock:
        locks = (*locks, cache_lock)
        for wheel in sorted(shelf.glob(f'{requirement().replace("==", "-").replace("onedl-", "onedl_")}-*.whl')):
            if install_wheel(wheel, locks):
                print(f'      took the wheel compiled earlier: {wheel}')
                return
            print(f'      {wheel} does not work; removing it')
            wheel.unlink()
        for wheel in wheels_of_pip(target, locks):
            if install_wheel(wheel, locks):
                print(f'      took the wheel that pip compiled earlier: {wheel.name}')
                keep(wheel, shelf)
                return
        wheel = compile_wheel(target, cache, locks)
        if not install_wheel(wheel, locks):
            shutil.rmtree(wheel.parent)
            raise SetUpError('mmcv was compiled, but its operators do not run; its log: .setup/logs/mmcv.log')
        keep(wheel, shelf)
        shutil.rmtree(cache / 'build' / target.tag)
