"""Activation checkpointing recomputes with the weights of a module, and masked ones are no longer there by then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.utils.checkpoint


class _Direct:
    """Stands in for torch's ``CheckpointFunction``, through which every reentrant checkpoint goes."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *arguments: Any) -> Any:
        return function(*arguments)


def _nothing_around(*_: Any, **__: Any) -> Iterator[None]:
    """Stands in for what torch does before and after the forward of a checkpoint that does not reenter."""
    yield


_STANDS_IN = {
    name: instead
    for name, instead in (
        ('CheckpointFunction', _Direct),
        ('_checkpoint_without_reentrant_generator', _nothing_around),
    )
    if hasattr(torch.utils.checkpoint, name)
}


@contextmanager
def without_checkpoints() -> Iterator[None]:
    """Inside, activation checkpoints call their function and keep what its backward pass needs.

    A checkpoint (``with_cp=True`` of the toolboxes, MMEngine's ``activation_checkpointing``) runs its part of a network
    once more in the backward pass. Where ``torch.func.functional_call`` has given the modules other weights for a
    forward pass, they have their own again by then: the gradient would be that of another function, and what was to
    learn would get none. It costs the memory that the checkpoint saves.

    Example:
        >>> from torch.utils.checkpoint import checkpoint
        >>> calls = []
        >>> def square(x):
        ...     calls.append(x)
        ...     return x * x
        >>> x = torch.ones(1, requires_grad=True)
        >>> with without_checkpoints():
        ...     loss = checkpoint(square, x, use_reentrant=True) + checkpoint(square, x, use_reentrant=False)
        >>> loss.backward()
        >>> x.grad, len(calls)
        (tensor([4.]), 2)
    """
    module = torch.utils.checkpoint
    before = {name: getattr(module, name) for name in _STANDS_IN}
    for name, instead in _STANDS_IN.items():
        setattr(module, name, instead)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
