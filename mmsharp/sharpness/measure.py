"""How sharp the minimum of a trained model is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError
from mmsharp.sharpness.ascents.ascent import TINY, gradient_norm, validate_radius
from mmsharp.sharpness.checkpointing import non_reentrant_checkpoints
from mmsharp.sharpness.guards import WeightGuard, frozen_statistics
from mmsharp.sharpness.parameters import AscentParameter, select_parameters
from mmsharp.sharpness.policies.policy import validate_count

Loss = Callable[[nn.Module], Tensor]
"""The loss of a model on one fixed batch, a 0-d tensor; deterministic, for the same weights always the same."""

STEP_SIZE = 2.5
"""Length of a projected gradient step, in ``rho / steps``: enough to reach the border from anywhere and to go along
it."""


@dataclass(frozen=True)
class Sharpness:
    """Losses at the weights and at the worst point that was found around them, means over the batches.

    Args:
        loss: ``L(w)``.
        perturbed_loss: The largest ``L(w + eps)`` found; infinite where it is no number.
        rho: Radius of the ball.
        steps: Gradient steps that were taken to find it.
    """

    loss: float
    perturbed_loss: float
    rho: float
    steps: int

    @property
    def value(self) -> float:
        """``L(w + eps) - L(w)``."""
        return self.perturbed_loss - self.loss


def measure_sharpness(
    model: nn.Module,
    losses: Sequence[Loss],
    rho: float = 0.05,
    steps: int = 1,
    eta: float | None = None,
    parameters: str | Sequence[str] = 'all',
) -> Sharpness:
    r"""``max over ||eps|| <= rho of L(w + eps) - L(w)``, from below, where ``L`` is the mean of the given losses.

    One step is SAM's own estimate, ``eps = rho * g / ||g||_2`` (Foret et al. 2021, equation 2). More steps are
    projected gradient ascent, which finds a worse point where the loss is not linear in the ball; the worst point on
    the way counts. With ``eta`` the ball is ASAM's, ``||eps / T||_2 <= rho`` with ``T = |w| + eta`` for weights (Kwon
    et al. 2021, equation 4), which does not change when a layer is rescaled. AdaSAP's paper reports this number before
    and after pruning (section 4 there) without stating rho.

    Unlike in training, one ``eps`` is sought for all batches together. The model is left bitwise as it was, and runs in
    the mode that it is in: call ``model.eval()`` first for the network that is deployed.

    Args:
        model: Any module.
        losses: One function per batch.
        rho: Radius, in the units of the weights, or without unit with ``eta``.
        steps: Gradient steps, each one pass over the batches; and one more pass for the last point.
        eta: Floor of ASAM's operator, in the units of the weights; ``None`` for the plain ball.
        parameters: Which parameters move, see :func:`~mmsharp.sharpness.select_parameters`.

    Raises:
        MmsharpError: An argument is not as described, no parameter has a gradient, or the loss at ``w`` is
            not finite.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 1.0)
        >>> reading = measure_sharpness(model, [lambda model: model.weight.square().sum()], rho=0.5)
        >>> reading.loss, reading.perturbed_loss, reading.value
        (1.0, 2.25, 1.25)
    """
    rho = validate_radius('rho', rho)
    steps = validate_count('measure_sharpness', 'steps', steps)
    eta = None if eta is None else validate_radius('eta', eta)
    if not losses:
        raise MmsharpError('measure_sharpness: losses is empty; give one function per batch')
    chosen = select_parameters(model, parameters)
    tensors = [parameter.tensor for parameter in chosen]
    scales = [_scale(parameter, eta) for parameter in chosen]
    # eps = T v; v stays in a ball of radius rho around 0.
    position = [torch.zeros_like(tensor) for tensor in tensors]
    step_size = rho if steps == 1 else STEP_SIZE * rho / steps
    first, worst = None, -torch.inf
    guard = WeightGuard()
    for step in range(steps + 1):
        with (
            frozen_statistics(model),
            guard.perturbed(tensors, [v if t is None else v * t for v, t in zip(position, scales)]),
        ):
            loss, gradients = _mean_loss(model, losses, tensors, wanted=step < steps)
        if first is None and not math.isfinite(loss):
            raise MmsharpError(f'measure_sharpness: the loss is {loss}, and has no surroundings to measure')
        first = loss if first is None else first
        worst = max(worst, loss) if math.isfinite(loss) else math.inf
        if step == steps or not math.isfinite(worst):
            break
        direction = [g if t is None else g.mul_(t) for g, t in zip(gradients, scales)]
        torch._foreach_mul_(direction, step_size / (gradient_norm(direction) + TINY))
        torch._foreach_add_(position, direction)
        torch._foreach_mul_(position, (rho / (gradient_norm(position) + TINY)).clamp(max=1.0))
    assert first is not None
    return Sharpness(first, worst, rho, steps)


def _scale(parameter: AscentParameter, eta: float | None) -> Tensor | None:
    return None if eta is None or not parameter.scaled else parameter.tensor.detach().abs() + eta


def _mean_loss(
    model: nn.Module, losses: Sequence[Loss], tensors: Sequence[nn.Parameter], wanted: bool
) -> tuple[float, list[Tensor]]:
    """The mean loss and, where wanted, its gradient."""
    total, gradients = 0.0, [torch.zeros_like(tensor) for tensor in tensors] if wanted else []
    for loss in losses:
        with torch.set_grad_enabled(wanted), non_reentrant_checkpoints():
            value = loss(model)
        total += value.item() / len(losses)
        if wanted and value.isfinite():
            if not value.requires_grad:
                raise MmsharpError('measure_sharpness: a loss depends on no parameter of the model')
            found = torch.autograd.grad(value / len(losses), tensors, allow_unused=True)
            for gradient, part in zip(gradients, found):
                if part is not None:
                    gradient.add_(part)
    return total, gradients
