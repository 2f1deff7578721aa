"""What an ascent is: the rule that turns a gradient into the point where the second gradient is taken."""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.sharpness.parameters import AscentParameter

TINY = 1e-12
"""Added to a norm before dividing by it, so that a zero gradient gives a zero perturbation and not NaN."""


class AscentReading(NamedTuple):
    """What an ascent step saw, as 0-d tensors on the device of the weights (reading them costs no synchronisation).

    Args:
        gradient_norm: ``||g||_2`` over all parameters that took part.
        radius: The mean radius of the balls, in the units of rho.
    """

    gradient_norm: Tensor
    radius: Tensor


class Turn(NamedTuple):
    """What a rule has made of the gradients, as 0-d tensors on their device.

    Args:
        norm: ``||g||_2`` over all of them, before.
        radius: The mean radius of the balls, in the units of rho.
        factor: What is left to multiply every gradient by to get ``eps``; ``None`` for nothing. A number that all share
            costs no pass through the memory of its own where ``eps`` is added to something anyway.
    """

    norm: Tensor
    radius: Tensor
    factor: Tensor | None = None


class Ascent(ABC):
    """Turns gradients into perturbations ``eps``, in place.

    A subclass is configured by its constructor alone and used through :meth:`perturb_`. What it remembers from one
    step to the next is in :meth:`state_dict`; most remember nothing. It must be invariant to a positive scale of the
    gradients: under gradient accumulation and mixed precision the first gradient arrives scaled.
    """

    default_parameters: ClassVar[str] = 'all'
    """The filter of :func:`~mmsharp.sharpness.select_parameters` used when the user names none."""

    direction: ClassVar[str] = 'gradient'
    """What :meth:`perturb_` is given: ``'gradient'``, of a first pass, or the optimizer's ``'momentum'``, without
    one."""

    @torch.no_grad()
    def perturb_(
        self,
        parameters: Sequence[AscentParameter],
        gradients: Sequence[Tensor],
        keep: Sequence[Tensor | None],
    ) -> AscentReading:
        """Overwrite ``gradients`` with ``eps``, of the same shapes and dtypes.

        Where the gradient is not finite there is no direction, and ``eps = 0``.

        Args:
            parameters: The parameters at the current point ``w``; not changed.
            gradients: ``dL/dw`` (or the momentum), one per parameter; overwritten.
            keep: Per parameter, ``None`` or a 0/1 tensor that broadcasts against it: pruned positions (0) take no
                part and get ``eps = 0``.
        """
        reading, factor = self.direct_(parameters, gradients, keep)
        if factor != 1:
            torch._foreach_mul_(list(gradients), factor)
        return reading

    @torch.no_grad()
    def direct_(
        self,
        parameters: Sequence[AscentParameter],
        gradients: Sequence[Tensor],
        keep: Sequence[Tensor | None],
    ) -> tuple[AscentReading, float]:
        """:meth:`perturb_` but for a number: overwrite ``gradients`` with ``d`` such that ``eps = factor * d``.

        On CPUs, where memory is what an ascent waits for, ``w + factor * d`` is then one pass and not two. Elsewhere
        the factor is 1, since reading it would wait for the device.

        Returns:
            The reading, and the factor.
        """
        keep_only_(gradients, keep)
        norm, radius, factor = self.turn_(parameters, gradients, keep)
        number = 1.0
        if factor is not None:
            if factor.device.type == 'cpu':
                number = factor.item() if math.isfinite(norm.item()) else 1.0
            else:
                torch._foreach_mul_(list(gradients), factor)
        discard_nonfinite_(gradients, norm)
        return AscentReading(norm, radius), number

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training has to have, as plain data and tensors; empty for nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most have none
        """Take over what :meth:`state_dict` gave."""

    @abstractmethod
    def turn_(
        self,
        parameters: Sequence[AscentParameter],
        gradients: Sequence[Tensor],
        keep: Sequence[Tensor | None],
    ) -> Turn:
        """The rule itself: overwrite gradients, in which pruned positions are 0, with ``eps``, up to a factor.

        Args:
            parameters: As in :meth:`perturb_`.
            gradients: As there.
            keep: As there.
        """


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """``sqrt(sum_k ||g_k||_2^2)`` over a list of tensors, a 0-d float32 tensor.

    Example:
        >>> gradient_norm([torch.tensor([3.0]), torch.tensor([[4.0]])])
        tensor(5.)
    """
    norms = torch._foreach_norm(list(gradients), 2)
    return torch.linalg.vector_norm(torch.stack([norm.float() for norm in norms]))


def keep_only_(gradients: Sequence[Tensor], keep: Sequence[Tensor | None]) -> None:
    """Zero the pruned positions of each gradient in place.

    Example:
        >>> gradient = torch.ones(2, 2)
        >>> keep_only_([gradient], [torch.tensor([[1.0], [0.0]])])
        >>> gradient.tolist()
        [[1.0, 1.0], [0.0, 0.0]]
    """
    for gradient, mask in zip(gradients, keep):
        if mask is not None:
            gradient.mul_(mask)


def validate_radius(name: str, value: float, *, minimum: float = 0.0) -> float:
    """Return ``value`` as a float, or refuse it by name.

    Raises:
        MmsharpError: ``value`` is not a finite number of at least ``minimum``.

    Example:
        >>> validate_radius('rho', 0.05)
        0.05
    """
    largest = sys.float_info.max
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not minimum <= value <= largest:
        raise MmsharpError(f'{name}={value!r} is not a finite number of at least {minimum:g}')
    return float(value)


def discard_nonfinite_(perturbations: Sequence[Tensor], norm: Tensor) -> None:
    """Set all perturbations to 0 in place where the gradient's norm is not finite.

    Without a direction there is no ascent: the second gradient is then the plain one. A GPU decides by itself, without
    being waited for.

    Args:
        perturbations: ``eps``, one per parameter.
        norm: ``||g||_2``, a 0-d tensor.

    Example:
        >>> eps = torch.tensor([float('nan'), 1.0])
        >>> discard_nonfinite_([eps], torch.tensor(float('inf')))
        >>> eps.tolist()
        [0.0, 0.0]
    """
    if norm.device.type == 'cpu':
        if not math.isfinite(norm.item()):
            torch._foreach_zero_(list(perturbations))
        return
    lost = ~norm.isfinite()
    for perturbation in perturbations:
        perturbation.masked_fill_(lost, 0.0)
