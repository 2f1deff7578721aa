"""Attention that looks its biases up when evaluation begins, and has none to use if only its flag is changed.

LeViT, TinyViT and EfficientFormer keep ``ab = attention_biases[:, attention_bias_idxs]`` from ``train(False)`` to the
next ``train(True)``. A look at a model that is being trained changes no more than flags, so it has to bring them along.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from mmsharp.pruning.layers.blocks import is_biased_attention


@contextmanager
def cached_biases(model: nn.Module) -> Iterator[None]:
    """Inside, such attention has its biases; where it had none before, it has none afterwards.

    Example:
        >>> with cached_biases(nn.Linear(1, 1)):
        ...     pass
    """
    without = [module for module in model.modules() if is_biased_attention(module) and not hasattr(module, 'ab')]
    for module in without:
        module.ab = module.attention_biases.detach()[:, module.attention_bias_idxs]  # type: ignore[index,operator]
    try:
        yield
    finally:
        for module in without:
            del module.ab
