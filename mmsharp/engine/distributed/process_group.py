"""Join and leave the processes of a launcher."""

import contextlib
import gc
import os
from collections.abc import Iterator

import torch
import torch.distributed

from mmsharp.engine.configs.config_printer import import_config_printer
from mmsharp.errors import MmsharpError


def join(launcher: str) -> None:
    """Join the process group that a launcher describes: NCCL with GPUs, gloo without.

    Raises:
        MmsharpError: The launcher is not supported, or has not set its environment.
    """
    gpus = torch.cuda.is_available()
    if launcher != 'pytorch':
        why = 'is not supported here' if gpus else 'needs GPUs, and torch sees none'
        raise MmsharpError(f'--launcher {launcher} {why}; use none, or pytorch under torchrun')
    if 'RANK' not in os.environ:
        raise MmsharpError(
            '--launcher pytorch needs the environment of torchrun: torchrun --nproc_per_node=2 tools/...'
        )
    if gpus:
        torch.cuda.set_device(int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count())
    torch.distributed.init_process_group('nccl' if gpus else 'gloo')


def leave() -> None:
    """Leave the process group with nothing left that holds it, and without waiting for processes that may have died.

    Gloo's threads end with the last reference to the group. DDP's is freed with the runner, which is full of cycles; a
    thread that is alive when the interpreter ends aborts the process, after all its work is done.
    """
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()
        gc.collect()


@contextlib.contextmanager
def process_group(launcher: str) -> Iterator[None]:
    """Join the processes of a launcher, and leave them again, for work that exchanges no gradients.

    The model needs no distributed wrapper then; only samplers and metrics know of the group.

    Raises:
        MmsharpError: As :func:`join`.
    """
    if launcher == 'none':
        yield
        return
    import_config_printer()
    join(launcher)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()
