"""Random scores: the control that every criterion has to beat."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.groups import ChannelGroup
from mmsharp.registry import CRITERIA


@CRITERIA.register_module()
class Random:
    """Uniform scores in [0, 1) that depend on the seed and the group's name alone, so they last through training.

    Args:
        seed: Any integer of at most 64 bits; the global random state is neither read nor changed.

    Raises:
        MmsharpError: The seed is no integer.

    Example:
        >>> from mmsharp.pruning import ChannelGroup
        >>> scores = Random(seed=1)(nn.Identity(), ChannelGroup('conv', 4, ()))
        >>> bool((scores == Random(seed=1)(nn.Identity(), ChannelGroup('conv', 4, ()))).all())
        True
    """

    def __init__(self, seed: int = 0) -> None:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise MmsharpError(f'Random: seed is {seed!r}, expected an integer')
        self.seed = seed

    def __call__(self, model: nn.Module, group: ChannelGroup) -> Tensor:
        """Scores of shape ``(group.channels,)``, float32 on the CPU."""
        digest = hashlib.sha256(f'{self.seed}:{group.name}'.encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], 'big'))
        return torch.rand(group.channels, generator=generator)
