"""Activation checkpointing that ``torch.autograd.grad`` can see through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.utils.checkpoint


class _NonReentrant:
    """Stands in for torch's ``CheckpointFunction``, through which every reentrant checkpoint goes."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve_rng_state: bool, *arguments: Any) -> Any:
        return torch.utils.checkpoint.checkpoint(
            function, *arguments, use_reentrant=False, preserve_rng_state=preserve_rng_state
        )


@contextmanager
def non_reentrant_checkpoints() -> Iterator[None]:
    """Inside, activation checkpoints are made without reentering autograd, however they were asked for.

    The toolboxes' ``with_cp=True`` and MMEngine's ``activation_checkpointing`` ask for the reentrant kind, whose hidden
    backward pass ``torch.autograd.grad`` refuses. Both kinds store and recompute the same; gradients are equal.

    Example:
        >>> from torch.utils.checkpoint import checkpoint
        >>> weight = torch.ones(1, requires_grad=True)
        >>> with non_reentrant_checkpoints():
        ...     loss = checkpoint(lambda x: (weight * x).square(), torch.ones(1), use_reentrant=True)
        >>> torch.autograd.grad(loss, weight)
        (tensor([2.]),)
    """
    original = torch.utils.checkpoint.CheckpointFunction
    torch.utils.checkpoint.CheckpointFunction = _NonReentrant  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        torch.utils.checkpoint.CheckpointFunction = original  # type: ignore[misc]
