"""Join and leave the processes of a launcher, for work that exchanges no gradients."""

import contextlib
import os
from collections.abc import Iterator

import torch
import torch.distributed

from mmsharp.errors import MmsharpError


@contextlib.contextmanager
def process_group(launcher: str) -> Iterator[None]:
    """Join the process group that the launcher describes: NCCL with GPUs, gloo without.

    No gradients are exchanged here, so the model needs no distributed wrapper; only samplers and metrics know of the
    group.

    Raises:
        MmsharpError: If the launcher is unknown or has not set its environment.
    """
    if launcher == 'none':
        yield
        return
    if launcher != 'pytorch':
        raise MmsharpError(f'launcher {launcher!r} is not supported here; use none, or pytorch under torchrun')
    if 'RANK' not in os.environ:
        raise MmsharpError(
            '--launcher pytorch needs the environment of torchrun: torchrun --nproc_per_node=2 tools/...'
        )
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count())
    torch.distributed.init_process_group('nccl' if gpus else 'gloo')
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()
