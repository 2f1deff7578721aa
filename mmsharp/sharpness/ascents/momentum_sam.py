"""Momentum-SAM: the momentum of the optimizer shows the way, and one pass is enough.

Becker, Altrock and Risse (2024), "Momentum-SAM: Sharpness Aware Minimization without Computational Overhead", arXiv
2401.12033, section 2.4 and algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.registry import ASCENTS, build_part
from mmsharp.sharpness.ascents.ascent import Ascent, Turn
from mmsharp.sharpness.parameters import AscentParameter


@ASCENTS.register_module()
class MomentumSAM(Ascent):
    r"""``eps = -rho * v / ||v||_2``, with the momentum ``v`` of the optimizer in place of a gradient.

    Becker et al. (2024), section 2.4 and algorithm 1. ``v`` and ``eps`` have the shapes and dtypes of the parameters;
    the norm is taken over all of them together. ``rho`` is that of the inner ascent, with its unit: that of the weights
    for SAM, none for ASAM and AdaSAP.

    The gradient is taken at ``w + eps`` in one forward and backward pass, so a step costs hardly more than a plain one.
    The sign is the paper's: the weights are about to move along ``-v``, and the gradient is taken further along that
    way, at a fixed distance (Nesterov's look-ahead takes ``lr * momentum * v`` there). ``v`` is ``momentum_buffer``
    (SGD) or ``exp_avg`` (Adam and its kin) of the optimizer's state; before the first step there is none, and
    ``eps = 0``. An optimizer that keeps none is refused.

    Departures: weight decay and Nesterov's momentum are as the optimizer has them; the weights are back at ``w``
    between steps, where algorithm 1 keeps them displaced to save a pass over the memory; 1e-12 is added to the norm.

    The only forward pass is the perturbed one: BatchNorm's running statistics are those of ``w + eps``, and there is no
    loss at ``w`` to compare with, so ``sharpness/loss_gap`` is not logged.

    Args:
        ascent: The formula that turns ``v`` into ``-eps``; ``None`` stands for the paper's formula as ``SAM(rho=0.3)``,
            a radius of our choice: the authors' is not confirmed. ``dict(type='ASAM')`` is what the paper tries in
            section 3.3; ``dict(type='AdaSAP')`` is a combination of ours.

    Raises:
        MmsharpError: ``ascent`` is no ascent, or one that follows the momentum itself.

    Example:
        >>> from torch import nn
        >>> from mmsharp.sharpness import select_parameters
        >>> momentum = torch.tensor([[3.0, 4.0]])
        >>> _ = MomentumSAM(dict(type='SAM', rho=0.5)).perturb_(
        ...     select_parameters(nn.Linear(2, 1, bias=False)), [momentum], [None]
        ... )
        >>> [round(value, 4) for value in momentum[0].tolist()]
        [-0.3, -0.4]
    """

    direction: ClassVar[str] = 'momentum'

    def __init__(self, ascent: Mapping[str, Any] | Ascent | None = None) -> None:
        built = build_part(ASCENTS, dict(type='SAM', rho=0.3) if ascent is None else ascent)
        if not isinstance(built, Ascent) or built.direction != 'gradient':
            raise MmsharpError(f'MomentumSAM: ascent={ascent!r} is no ascent along the gradient, such as SAM or AdaSAP')
        self.ascent = built
        self.default_parameters = built.default_parameters  # type: ignore[misc]

    def state_dict(self) -> dict[str, Any]:
        """The inner ascent's."""
        return self.ascent.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inner ascent's."""
        self.ascent.load_state_dict(state)

    def turn_(
        self,
        parameters: Sequence[AscentParameter],
        gradients: Sequence[Tensor],
        keep: Sequence[Tensor | None],
    ) -> Turn:
        """Turn the momenta, given as ``gradients``, as the inner ascent does, the other way; see the base class."""
        turn = self.ascent.turn_(parameters, gradients, keep)
        if turn.factor is not None:
            return turn._replace(factor=-turn.factor)
        torch._foreach_neg_(list(gradients))
        return turn
