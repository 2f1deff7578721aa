"""What the machine must have before anything is downloaded, and the apt line for what it has not."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from environment.errors import SetUpError

GIGABYTE = 10**9
NEEDED_SPACE = 9 * GIGABYTE


def has_venv() -> bool:
    """Say whether this Python can make an environment with pip in it (Debian packages that apart)."""
    return all(importlib.util.find_spec(name) is not None for name in ('venv', 'ensurepip'))


def has_compiler() -> bool:
    """Say whether the C++ compiler that torch's extensions use (``$CXX``, else ``c++``) is there."""
    command = (os.environ.get('CXX') or 'c++').split()
    return bool(command) and shutil.which(command[0]) is not None


def has_headers() -> bool:
    """Say whether ``Python.h`` of this Python is installed."""
    return (Path(sysconfig.get_path('include')) / 'Python.h').is_file()


def compiles() -> bool:
    """Say whether a C++17 file that uses the standard library and ``Python.h`` passes the compiler."""
    command = (os.environ.get('CXX') or 'c++').split()
    source = '#include <Python.h>\n#include <vector>\n#include <optional>\nstd::optional<std::vector<int>> one;\n'
    include = sysconfig.get_path('include')
    arguments = [*command, '-std=c++17', '-fsyntax-only', f'-I{include}', '-x', 'c++', '-']
    done = subprocess.run(arguments, input=source, text=True, capture_output=True)
    return done.returncode == 0


def missing_packages(version: tuple[int, int], venv: bool, compiler: bool, headers: bool) -> dict[str, str]:
    """Map what is missing, as a person would say it, to the Debian package that brings it.

    Example:
        >>> missing_packages((3, 11), venv=True, compiler=False, headers=False)
        {'a C++ compiler (g++)': 'g++', 'Python.h': 'python3.11-dev'}
    """
    python = f'python{version[0]}.{version[1]}'
    missing = {}
    if not venv:
        missing['the venv module with ensurepip'] = f'{python}-venv'
    if not compiler:
        missing['a C++ compiler (g++)'] = 'g++'
    if not headers:
        missing['Python.h'] = f'{python}-dev'
    return missing


def check_machine(compile_mmcv: bool = True) -> None:
    """Refuse a machine that lacks a prerequisite, with the apt line that brings all that is missing.

    Args:
        compile_mmcv: Whether a compiler and the headers are needed; not so with a prebuilt mmcv wheel.

    Raises:
        SetUpError: If something is missing, or the compiler rejects C++17.
    """
    needed = not compile_mmcv
    missing = missing_packages(sys.version_info[:2], has_venv(), needed or has_compiler(), needed or has_headers())
    if missing:
        raise SetUpError(
            f'{sys.executable} (Python {sys.version.split()[0]}) lacks {", ".join(missing)}. '
            f'On Debian or Ubuntu run: sudo apt install {" ".join(missing.values())}'
        )
    if compile_mmcv and not compiles():
        raise SetUpError(
            f'the C++ compiler {os.environ.get("CXX") or "c++"!r} rejects a C++17 file with <vector> and Python.h. '
            'On Debian or Ubuntu run: sudo apt install g++; elsewhere set CXX to g++ 9 or newer'
        )


def check_space(folder: Path) -> None:
    """Refuse to start a fresh environment where less than nine gigabytes are free."""
    free = shutil.disk_usage(folder).free
    if free < NEEDED_SPACE:
        raise SetUpError(
            f'{folder} has {free / GIGABYTE:.1f} GB free; set-up needs {NEEDED_SPACE / GIGABYTE:.0f} GB '
            '(torch with its CUDA libraries is most of it). Free some space or clone elsewhere'
        )
