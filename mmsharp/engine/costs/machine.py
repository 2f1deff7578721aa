"""On what something was measured."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def machine() -> dict[str, Any]:
    """Processor, cores, vector instructions, GPU and system of this machine, in JSON types.

    Example:
        >>> sorted(machine())
        ['cores', 'gpu', 'processor', 'python', 'system', 'vectors']
    """
    cpuinfo = Path('/proc/cpuinfo')
    names = re.findall(r'model name\s*: (.*)', cpuinfo.read_text()) if cpuinfo.is_file() else []
    return dict(
        processor=names[0] if names else platform.processor(),
        cores=len(os.sched_getaffinity(0)),
        vectors=torch.backends.cpu.get_cpu_capability(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        system=f'{platform.system()} {platform.machine()}',
        python=platform.python_version(),
    )


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Installed versions by the name of the distribution; ``None`` where it is not installed.

    Example:
        >>> versions(['no-such-package'])
        {'no-such-package': None}
    """
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found
