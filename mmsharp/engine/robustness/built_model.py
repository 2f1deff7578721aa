"""A model that is there already, in the place of the one that a config would build."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner
from torch import nn

from mmsharp.errors import MmsharpError


def model_sha256(model: nn.Module) -> str:
    """Hash the names, shapes and values of everything in a model's state.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> before = model_sha256(layer)
        >>> _ = layer.weight.data.add_(1)
        >>> before == model_sha256(layer)
        False
    """
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            digest.update(f'{value.dtype} {tuple(value.shape)}'.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def without_hooks(cfg: Config) -> None:
    """Take the hooks out of a prepared config, in place: what they do to a model was done to this one."""
    cfg.custom_hooks = []
    cfg.default_hooks = ConfigDict({name: hook for name, hook in cfg.default_hooks.items() if hook is None})


def use_model(runner: Runner, model: nn.Module) -> None:
    """Let a runner test a model, on the runner's device.

    Raises:
        MmsharpError: It cannot be tested by MMEngine.
    """
    if not hasattr(model, 'test_step'):
        raise MmsharpError(
            f'{type(model).__name__} has no test_step; give a model of MMDetection or MMPretrain, as '
            'mmsharp.apis.init_model builds it, or the path of a checkpoint'
        )
    model.to(get_device())
    if isinstance(runner.model, BaseTTAModel):
        runner.model.module = model
    else:
        runner.model = model


@contextmanager
def same_mode(model: object) -> Iterator[None]:
    """Give back the mode of every part of a model, training or not; anything but a model is left alone."""
    modes = [(part, part.training) for part in model.modules()] if isinstance(model, nn.Module) else []
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
