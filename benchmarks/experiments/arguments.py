"""What the experiments share on the command line and on the disk."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from mmsharp.errors import MmsharpError

from .methods import METHODS


def add_arguments(
    parser: argparse.ArgumentParser,
    methods: Sequence[str],
    seeds: Sequence[int],
    work_dir: Path,
    choices: Iterable[str] = tuple(METHODS),
    criteria: bool = True,
    budget: float = 0.4,
) -> None:
    """The options that all experiments share, with the defaults of one of them."""
    parser.add_argument('--methods', nargs='+', choices=list(choices), default=list(methods), metavar='METHOD')
    if criteria:
        parser.add_argument(
            '--criteria', nargs='+', default=['Magnitude'], help='registered criteria (default: Magnitude)'
        )
    parser.add_argument(
        '--budgets', nargs='+', type=float, default=[budget], help=f'share of parameters (default: {budget})'
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=list(seeds), help=f'(default: {seeds})')
    parser.add_argument('--work-dir', type=Path, default=work_dir, help='where to work')
    add_mixed(parser)
    parser.add_argument('--record', default='cpu', metavar='NAME', help='name of the record (default: cpu)')
    parser.add_argument('--render', action='store_true', help='only write the tables from the record')


def add_mixed(parser: argparse.ArgumentParser) -> None:
    """The option for mixed precision."""
    parser.add_argument(
        '--mixed', action=_Mixed, nargs=0, default=False, help='train in mixed precision, bfloat16 on CPUs'
    )


class _Mixed(argparse.Action):
    """Sets the option, and says so where it does harm."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        setattr(namespace, self.dest, True)
        vectors = torch.backends.cpu.get_cpu_capability()
        if not torch.cuda.is_available() and platform.machine() == 'x86_64' and vectors != 'AVX512':
            print(
                f'warning: this processor ({vectors}) has no bfloat16; training takes many times as long as '
                'in float32: leave --mixed out, with a record of its own (--record NAME) where there is one',
                file=sys.stderr,
            )


def data_folder() -> Path:
    """What ``MMSHARP_DATA`` names.

    Raises:
        MmsharpError: It is not set, or no folder.
    """
    value = os.environ.get('MMSHARP_DATA')
    if not value or not os.path.isdir(value):
        raise MmsharpError(f'MMSHARP_DATA={value!r} names no folder; it holds cifar10/, bccd/ and weights/')
    return Path(value)
