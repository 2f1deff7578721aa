"""Context managers that give a model back exactly as it was, whatever happens inside."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mmsharp.sharpness.forward_state import ForwardState, keeps_torch_statistics


class WeightGuard:
    """Lets tensors stand at ``w + eps`` for a while, in buffers that are kept between steps.

    ``w + eps`` is computed into a buffer, and the tensors point to it meanwhile: ``w`` itself is never written, so it
    comes back bitwise and without a copy. Allocating the buffer afresh at every step would cost more than filling
    it.

    Example:
        >>> weight = torch.tensor([1.0])
        >>> guard = WeightGuard()
        >>> with guard.perturbed([weight], [torch.tensor([0.5])]):
        ...     print(weight.item())
        1.5
        >>> weight.item()
        1.0
    """

    def __init__(self) -> None:
        self._buffers: list[Tensor] = []

    @contextmanager
    def perturbed(
        self, tensors: Sequence[Tensor], perturbations: Sequence[Tensor], factor: float = 1.0
    ) -> Iterator[None]:
        """Inside, each tensor is ``w + factor * eps``; afterwards, also after an exception, it is bitwise ``w``.

        The perturbations are not kept: who lets go of them inside frees their memory.
        """
        self.prepare(tensors, perturbations, factor)
        del perturbations  # this frame lives on, and would keep a copy of the weights' size alive
        with self.displaced(tensors):
            yield

    def prepare(self, tensors: Sequence[Tensor], perturbations: Sequence[Tensor], factor: float = 1.0) -> None:
        """Compute ``w + factor * eps`` for :meth:`displaced`."""
        originals = [tensor.detach() for tensor in tensors]
        _add(originals, perturbations, factor, self._buffers_for(originals))

    @contextmanager
    def displaced(self, tensors: Sequence[Tensor]) -> Iterator[None]:
        """Inside, each tensor is the ``w + eps`` prepared for it; it may be entered again and costs nothing.

        What autograd saved of the tensors inside is used rightly only while they are displaced again.
        """
        originals = [tensor.data for tensor in tensors]
        try:
            for tensor, buffer in zip(tensors, self._buffers):
                tensor.data = buffer
            torch.clear_autocast_cache()  # an autocast around all of this has casts of the weights before
            yield
        finally:
            for tensor, original in zip(tensors, originals):
                tensor.data = original
            torch.clear_autocast_cache()

    def release(self) -> None:
        """Free the buffers; the next step allocates them again."""
        self._buffers = []

    def _buffers_for(self, originals: Sequence[Tensor]) -> list[Tensor]:
        known = [*self._buffers, *[None] * len(originals)]
        self._buffers = [
            buffer if buffer is not None and _alike(buffer, tensor) else torch.empty_like(tensor)
            for tensor, buffer in zip(originals, known)
        ]
        return self._buffers


@torch.no_grad()
def _add(originals: Sequence[Tensor], perturbations: Sequence[Tensor], factor: float, out: Sequence[Tensor]) -> None:
    """``out <- w + factor * eps``, in one pass through the memory on CPUs, in few kernels on GPUs."""
    if all(tensor.device.type == 'cpu' for tensor in originals):
        for buffer, original, eps in zip(out, originals, perturbations):
            torch.add(original, eps, alpha=factor, out=buffer)
    else:
        torch._foreach_copy_(list(out), list(originals))
        torch._foreach_add_(list(out), list(perturbations), alpha=factor)


def _alike(first: Tensor, second: Tensor) -> bool:
    return (
        first.shape == second.shape
        and first.dtype == second.dtype
        and first.device == second.device
        and first.stride() == second.stride()
    )


@contextmanager
def frozen_statistics(model: nn.Module, before: ForwardState | None = None) -> Iterator[None]:
    """Inside, a forward pass leaves the model's state as it was, and begins with the state that ``before`` holds.

    BatchNorm keeps normalising with the statistics of the batch, but its running mean, variance and counter stand
    still: ``track_running_stats`` is off for modules in training mode, which current torch honours in ``forward``.
    (A momentum of 0 would still count the batch, and would turn an infinite batch mean into NaN.) All other state is
    exchanged and put back, see :class:`ForwardState`.

    Args:
        model: The model, without the wrapper of distributed training.
        before: The state to begin with; ``None`` stands for the present one.

    Example:
        >>> norm = nn.BatchNorm1d(1)
        >>> with frozen_statistics(norm):
        ...     _ = norm(torch.tensor([[1.0], [3.0]]))
        >>> norm.running_mean.item(), norm.num_batches_tracked.item()
        (0.0, 0)
    """
    before = ForwardState(model) if before is None else before
    tracking = [
        module
        for module in model.modules()
        if keeps_torch_statistics(module) and module.training and module.track_running_stats
    ]
    with before.replayed():
        for module in tracking:
            module.track_running_stats = False  # type: ignore[assignment]
        try:
            yield
        finally:
            for module in tracking:
                module.track_running_stats = True  # type: ignore[assignment]


class RandomState(NamedTuple):
    """The state of every generator that a forward pass may draw from: Python, NumPy, torch, and one GPU.

    Example:
        >>> state = RandomState.capture()
        >>> first = torch.rand(1)
        >>> with state.replayed():
        ...     second = torch.rand(1)
        >>> bool(first == second)
        True
    """

    python: Any
    numpy: Any
    torch: Tensor
    device: Tensor | None

    @classmethod
    def capture(cls) -> RandomState:
        """Read the current states; nothing is changed."""
        device = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), device)

    def restore(self) -> None:
        """Put the generators back to this state."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.device is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.device)

    def to_dict(self) -> dict[str, Any]:
        """The states as tensors and plain data, for a checkpoint that loads with ``weights_only=True``."""
        kind, numbers, position, has_gauss, gauss = self.numpy
        return dict(
            python=list(self.python[1]),
            python_gauss=self.python[2],
            numpy=dict(
                kind=kind,
                numbers=torch.from_numpy(numbers.astype(np.int64)),
                rest=[int(position), int(has_gauss), float(gauss)],
            ),
            torch=self.torch,
            device=self.device,
        )

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> RandomState:
        """Read what :meth:`to_dict` wrote."""
        position, has_gauss, gauss = state['numpy']['rest']
        numbers = state['numpy']['numbers'].numpy().astype(np.uint32)
        python = (random.getstate()[0], tuple(state['python']), state['python_gauss'])
        numpy = (state['numpy']['kind'], numbers, position, has_gauss, gauss)
        return cls(python, numpy, state['torch'].cpu(), None if state['device'] is None else state['device'].cpu())

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Inside, the generators start from this state; afterwards they go on as if nothing had been drawn."""
        outside = RandomState.capture()
        self.restore()
        try:
            yield
        finally:
            outside.restore()
