"""The steps of set-up, in order; each one is cheap when it has nothing to do, and the stamp comes last."""

import os
import shutil
import sys
import time
from pathlib import Path

from environment import folders, stamp
from environment.compiled_mmcv import PIP, WHEELS_VARIABLE, install_mmcv
from environment.errors import SetUpError
from environment.headless_opencv import has_foreign_opencv, pinned_version, write_stand_in
from environment.leftovers import remove_unfinished
from environment.lock import exclusive
from environment.prerequisites import check_machine, check_space
from environment.running import clock, run_step

TORCH_VARIABLE = 'MMSHARP_TORCH_INDEX'
CONSTRAINTS = folders.REQUIREMENTS / 'constraints.txt'
STEPS = 7


def announce(number: int, text: str) -> None:
    """Print the heading of a step."""
    print(f'[{number}/{STEPS}] {text}', flush=True)


def site_packages() -> Path:
    """Return the folder in which ``.venv`` holds its distributions."""
    return folders.VENV / 'lib' / f'python{sys.version_info.major}.{sys.version_info.minor}' / 'site-packages'


def requirement_files(*names: str) -> list[str]:
    """Return the pip arguments that read ``requirements/<name>.txt``."""
    return [word for name in names for word in ('-r', str(folders.REQUIREMENTS / f'{name}.txt'))]


def discard(path: Path) -> None:
    """Move ``path`` out of the way in one step, then delete it; a kill in between leaves only rubbish in ``.setup``."""
    rubbish = folders.WORK / f'rubbish-{os.getpid()}-{time.monotonic_ns()}'
    os.replace(path, rubbish)
    shutil.rmtree(rubbish, ignore_errors=True)


def clear_the_way() -> bool:
    """Look at what stands at ``.venv``; remove what cannot be continued.

    Returns:
        True if an unfinished environment of ours is to be continued.
    """
    for rubbish in folders.WORK.glob('rubbish-*'):
        shutil.rmtree(rubbish, ignore_errors=True)
    venv = folders.VENV
    if not os.path.lexists(venv):
        return False
    if stamp.is_ours(folders.ROOT, venv):
        works = os.access(folders.PYTHON, os.X_OK) and (site_packages() / 'pip' / '__main__.py').is_file()
        finished_before = (venv / stamp.STAMP).is_file()
        if works:
            (venv / stamp.STAMP).unlink(missing_ok=True)
            print(
                '.venv is out of date: bringing it up to date' if finished_before else '.venv is unfinished: going on'
            )
            return True
        print('.venv is unfinished and does not run: making it again')
        discard(venv)
    elif (venv / stamp.MARKER).is_file():
        print('.venv was made by another Python or for another folder: making it again')
        discard(venv)
    else:
        aside = venv.with_name(f'.venv.before-mmsharp-{int(time.time())}')
        print(f'.venv was not made by this set-up: moving it to {aside.name} and making a new one')
        os.replace(venv, aside)
    return False


def create_environment(locks: tuple[int, ...]) -> None:
    """Create ``.venv`` with its marker first, so that a kill at any moment leaves something that is recognised."""
    folders.VENV.mkdir()
    stamp.write(folders.VENV / stamp.MARKER, dict(stamp.identity(folders.ROOT)))
    run_step('create .venv', (sys.executable, '-m', 'venv', folders.VENV), 'venv', locks)


def repair(locks: tuple[int, ...]) -> None:
    """Make a continued environment consistent: no half-installed distribution, no ``cv2`` that needs libGL."""
    for name in remove_unfinished(site_packages()):
        print(f'      {name} was left half installed; installing it again')
    if has_foreign_opencv(site_packages()):
        names = ('opencv-python', 'opencv-contrib-python', 'opencv-python-headless')
        run_step('remove the OpenCV that needs libGL', (*PIP, 'uninstall', '--yes', *names), 'dependencies', locks)


def install_torch(locks: tuple[int, ...]) -> None:
    """Install the pinned pair, from ``MMSHARP_TORCH_INDEX`` when it is set."""
    index = os.environ.get(TORCH_VARIABLE, '').strip()
    source = ['--index-url', index] if index else ['-c', str(CONSTRAINTS)]
    command = (*PIP, 'install', *source, *requirement_files('torch'))
    run_step('install torch', command, 'torch', locks)


def install_dependencies(locks: tuple[int, ...]) -> None:
    """Install the toolboxes without mmcv, and what mmsharp, its demonstration and its tests need."""
    stand_in = write_stand_in(pinned_version(CONSTRAINTS), folders.WORK)
    names = requirement_files('torch', 'runtime', 'toolboxes', 'demo', 'export', 'tests')
    run_step('install the dependencies', (*PIP, 'install', '-c', CONSTRAINTS, stand_in, *names), 'dependencies', locks)


def install_all(locks: tuple[int, ...]) -> None:
    """Run every step on whatever is at ``.venv``."""
    announce(1, f'check this machine (Python {sys.version.split()[0]}, {sys.executable})')
    check_machine(compile_mmcv=not os.environ.get(WHEELS_VARIABLE, '').strip())
    continued = clear_the_way()
    announce(2, 'the environment .venv and the build tools')
    if continued:
        repair(locks)
    else:
        check_space(folders.ROOT)
        create_environment(locks)
    build_tools = (*PIP, 'install', '-c', CONSTRAINTS, *requirement_files('build'))
    run_step('install the build tools', build_tools, 'build_tools', locks)
    announce(3, 'torch and torchvision (with CUDA libraries about 2.5 GB to fetch; 5 GB on disk)')
    install_torch(locks)
    announce(4, 'the toolboxes and the other dependencies')
    install_dependencies(locks)
    announce(5, 'mmcv with its compiled operators')
    install_mmcv(locks)
    announce(6, 'mmsharp, editable')
    editable = (*PIP, 'install', '--no-deps', '--no-build-isolation', '--editable', folders.ROOT)
    run_step('install mmsharp', editable, 'mmsharp', locks)
    announce(7, 'verify: imports, compiled operators, headless cv2, pip check')
    for program in ('verify_mmcv.py', 'verify_environment.py'):
        run_step(
            'verify the environment', (folders.PYTHON, folders.INSIDE / program), 'verify', locks, cwd=folders.WORK
        )
    print(f'      pip check: {pip_check(locks)}')


def pip_check(locks: tuple[int, ...]) -> str:
    """Return what ``pip check`` says; a conflict is shown and is no reason to stop."""
    try:
        return run_step('pip check', (*PIP, 'check'), 'verify', locks).strip()
    except SetUpError:
        return 'conflicts, see above; the environment works all the same'


def set_up() -> None:
    """Make ``.venv`` complete, or return at once if it is.

    Raises:
        SetUpError: If a prerequisite is missing or a step fails.
    """
    if stamp.is_complete(folders.ROOT, folders.VENV):
        return
    folders.WORK.mkdir(exist_ok=True)
    with exclusive(folders.WORK / 'lock', 'another set-up of this folder') as lock:
        if stamp.is_complete(folders.ROOT, folders.VENV):
            return
        started = time.monotonic()
        print('Setting up .venv (logs: .setup/logs); if it is interrupted, the next call goes on.', flush=True)
        install_all((lock,))
        stamp.mark_complete(time.monotonic() - started)
        print(f'set-up is complete ({clock(time.monotonic() - started)} min)', flush=True)
