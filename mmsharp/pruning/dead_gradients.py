"""Gradients of dead weights in layers that divide by a deviation of their own weights.

A convolution that standardises its weights (Qiao et al. 2019, arXiv 1903.10520) computes ``w / std(w)``. Where a filter
is masked all of its weights are zero, and the derivative of the square root at zero times zero is NaN. One NaN in the
norm of all gradients is enough to lose the model to clipping.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

PLAIN = 'torch.nn.modules.'
"""Where the layers are defined that use their weights as they are."""


class DeadGradients:
    """Zeros in the place of whatever the gradients of dead positions are, in layers that are not torch's own.

    Example:
        >>> import torch
        >>> class Standardised(nn.Linear):
        ...     def forward(self, x):
        ...         return nn.functional.linear(x, self.weight / self.weight.std(dim=1, keepdim=True).add(1e-5))
        >>> layer = Standardised(2, 2, bias=False)
        >>> layer.weight.data = torch.tensor([[0.0, 0.0], [1.0, 3.0]])
        >>> held = DeadGradients()
        >>> held.hold(layer, {layer.weight: torch.tensor([[0.0], [1.0]])})
        >>> layer(torch.ones(1, 2)).sum().backward()
        >>> layer.weight.grad[0].tolist(), bool(layer.weight.grad[1].isfinite().all())
        ([0.0, 0.0], True)
    """

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []

    def hold(self, model: nn.Module, masks: Mapping[nn.Parameter, Tensor]) -> None:
        """Hold these masks, and no longer those before.

        Args:
            model: Its layers of other kinds than torch's are looked after.
            masks: A broadcastable 0/1 mask per parameter with dead positions.
        """
        self.release()
        for module in model.modules():
            if type(module).__module__.startswith(PLAIN):
                continue
            for parameter in module.parameters(recurse=False):
                if parameter in masks and parameter.requires_grad:
                    self._handles.append(parameter.register_hook(_Zeros(masks[parameter])))

    def release(self) -> None:
        """Let gradients be what they are."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


class _Zeros:
    def __init__(self, mask: Tensor) -> None:
        self.dead = mask == 0

    def __call__(self, gradient: Tensor) -> Tensor:
        return gradient.masked_fill(self.dead, 0.0)
