"""Sharpness-aware training in mixed precision."""

from __future__ import annotations

import torch
from mmengine.optim import AmpOptimWrapper
from torch import Tensor, nn

from mmsharp.engine.optim_wrappers.sharpness_aware import SharpnessAware
from mmsharp.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AmpSAMOptimWrapper(SharpnessAware, AmpOptimWrapper):
    """MMEngine's ``AmpOptimWrapper`` made sharpness-aware; arguments and contract: :class:`SharpnessAware`.

    The first gradient is taken of the scaled loss, so that it does not underflow in half precision: an ascent is
    invariant to that scale. An overflow in either pass reaches the gradient scaler as a non-finite gradient, which
    skips the step and lowers the scale as in plain mixed precision; the weights are back by then. Like its parent it
    needs an accelerator.
    """

    def _ascent_gradients(self, loss: Tensor, tensors: list[nn.Parameter]) -> list[Tensor | None]:
        return list(torch.autograd.grad(self.loss_scaler.scale(loss), tensors, allow_unused=True))
