"""A model that is there already, in the place of the one that a config would build."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.model import BaseTTAModel
from mmengine.runner import Runner
from torch import nn

from mmsharp.errors import MmsharpError

ADDRESS = re.compile(r' at 0x[0-9a-f]+')
"""Where an object lies in memory, which some parts print."""
DEPTH = 4
"""How deep settings are looked into: ``test_cfg`` of a two-stage detector has dictionaries in dictionaries."""


def model_sha256(model: nn.Module) -> str:
    """Hash what a model computes with: its state, its parts, and the settings that they hold.

    Everything in its state and its buffers counts, by name, shape and values; the types of its parts and how they
    print; and what they keep as plain values, such as ``test_cfg``, strides and thresholds, also in the coders and
    generators of a detector. Code does not count: a method that was exchanged goes unnoticed.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> before = model_sha256(layer)
        >>> _ = layer.weight.data.add_(1)
        >>> before == model_sha256(layer)
        False
    """
    digest = hashlib.sha256()
    for name, value in (*model.state_dict().items(), *model.named_buffers()):
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            digest.update(_bytes(value))
    digest.update(ADDRESS.sub('', repr(model)).encode())
    for name, part in model.named_modules():
        digest.update(f'{name} {_type(part)} {_settings(part, DEPTH)}'.encode())
    return digest.hexdigest()


def _bytes(value: torch.Tensor) -> bytes:
    content = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return f'{value.dtype} {tuple(value.shape)}'.encode() + content


def _type(value: object) -> str:
    return f'{type(value).__module__}.{type(value).__qualname__}'


def _settings(holder: object, depth: int) -> list[tuple[str, Any]]:
    """What an object keeps under public names, sorted; not a model's mode, which is switched for the test."""
    names = sorted(name for name in vars(holder) if not name.startswith('_') and name != 'training')
    return [(name, _plain(vars(holder)[name], depth)) for name in names]


def _plain(value: Any, depth: int) -> Any:
    """A value in types that print as what they are; ``None`` for what is not looked into."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if isinstance(value, torch.Tensor):
        return hashlib.sha256(_bytes(value)).hexdigest()
    if isinstance(value, np.ndarray):
        return repr(value.tolist())
    if depth == 0 or isinstance(value, (nn.Module, Config)):
        return None  # modules are visited by themselves; a whole config is how the model was built
    if isinstance(value, dict):
        return sorted(f'{key!r}: {_plain(item, depth - 1)}' for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth - 1) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(str(_plain(item, depth - 1)) for item in value)
    if hasattr(value, '__dict__') and not callable(value):
        return [_type(value), *_settings(value, depth - 1)]
    return None


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
