"""LookSAM: the part of SAM's gradient that flattens changes slowly, so it is reused.

Liu et al. (2022), "Towards Efficient and Scalable Sharpness-Aware Minimization", arXiv 2203.02714, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmsharp.registry import POLICIES
from mmsharp.sharpness.ascents.ascent import TINY, gradient_norm, validate_radius
from mmsharp.sharpness.parameters import AscentParameter
from mmsharp.sharpness.policies.policy import Policy, validate_count


@POLICIES.register_module()
class LookSAM(Policy):
    r"""Every k-th step has an ascent; those between add the part of its gradient that the plain gradient lacks.

    Liu et al. (2022), algorithm 1. At an ascent, with ``g`` the gradient at ``w`` and ``g_s`` that at ``w + eps``:
    ``g_v = g_s - <g_s, g> / ||g||^2 g`` is remembered. Between: ``g <- g + alpha * ||g|| / ||g_v|| * g_v``. All three
    have the shapes and dtypes of the parameters. Norms and products run over all perturbed parameters together, after
    accumulation and after the processes' gradients have been averaged; 1e-12 is added to what is divided by. An ascent
    whose gradients are not finite leaves the remembered part as it was.

    Args:
        interval: ``k``; the paper takes 5 to 10. The cost is ``1 + 1 / k`` of plain training's and what the reuse takes
            (measured in docs/train-sharpness-aware.md), and two to three copies of the perturbed parameters.
        alpha: Weight of the reused part, without unit; 0.7 in the paper.

    Raises:
        MmsharpError: ``interval`` is not a whole number of at least 1, or ``alpha`` is negative or not a number.

    Example:
        >>> policy = LookSAM(interval=5, alpha=0.5)
        >>> policy.correct_({'w': torch.tensor([3.0, 4.0])}, {'w': torch.tensor([1.0, 0.0])})
        >>> gradient = torch.tensor([0.0, 2.0])
        >>> policy.correct_({'w': gradient}, {})
        >>> gradient.tolist()
        [0.0, 3.0]
    """

    corrects: ClassVar[bool] = True

    def __init__(self, interval: int = 5, alpha: float = 0.7) -> None:
        self.interval = validate_count('LookSAM', 'interval', interval)
        self.alpha = validate_radius('alpha', alpha)
        self._flattening: dict[str, Tensor] = {}

    def select(self, step: int, parameters: Sequence[AscentParameter]) -> Sequence[AscentParameter]:
        """All parameters at every k-th step, and until an ascent has been seen; none at others."""
        return parameters if step % self.interval == 0 or not self._flattening else ()

    @torch.no_grad()
    def correct_(self, gradients: Mapping[str, Tensor], first: Mapping[str, Tensor]) -> None:
        """Remember ``g_v`` after an ascent, add it to the gradients of a plain step; see the class."""
        if first:
            self._remember(gradients, first)
        elif self._flattening:
            names = [name for name in self._flattening if name in gradients]
            if not names:
                return
            plain = [gradients[name] for name in names]
            flattening = [self._flattening[name].to(gradients[name]) for name in names]
            scale = self.alpha * gradient_norm(plain) / (gradient_norm(flattening) + TINY)
            torch._foreach_add_(plain, torch._foreach_mul(flattening, scale))

    def _remember(self, gradients: Mapping[str, Tensor], first: Mapping[str, Tensor]) -> None:
        names = [name for name in first if name in gradients]
        g, g_s = [first[name] for name in names], [gradients[name] for name in names]
        product = torch.stack([(a * b).sum().float() for a, b in zip(g, g_s)]).sum()
        square = gradient_norm(g).square()
        orthogonal = torch._foreach_sub(g_s, torch._foreach_mul(g, product / (square + TINY)))
        finite = (product + square + gradient_norm(g_s)).isfinite()
        for name, new in zip(names, orthogonal):
            old = self._flattening.get(name)
            self._flattening[name] = torch.where(finite, new, torch.zeros_like(new) if old is None else old.to(new))

    def forget(self) -> None:
        """Drop ``g_v``: the next step has an ascent."""
        self._flattening.clear()

    def state_dict(self) -> dict[str, Any]:
        """``g_v`` by name of parameter."""
        return dict(flattening=dict(self._flattening))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over ``g_v``; it follows the gradients to their device when it is used."""
        self._flattening = dict(state['flattening'])
