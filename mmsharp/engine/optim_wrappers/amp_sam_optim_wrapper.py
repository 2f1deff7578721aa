"""Sharpness-aware training in mixed precision."""

from __future__ import annotations

import torch
from torch import Tensor

from mmsharp.engine.optim_wrappers.amp_optim_wrapper import AmpOptimWrapper
from mmsharp.engine.optim_wrappers.sharpness_aware import SharpnessAware
from mmsharp.registry import OPTIM_WRAPPERS
from mmsharp.sharpness import AscentParameter


@OPTIM_WRAPPERS.register_module()
class AmpSAMOptimWrapper(SharpnessAware, AmpOptimWrapper):
    """MMEngine's ``AmpOptimWrapper`` made sharpness-aware; arguments and contract: :class:`SharpnessAware`.

    The first gradient is taken of the scaled loss, so that it does not underflow in half precision, and unscaled before
    the ascent sees it. A scale at which it overflows makes the second one overflow too: the step is skipped and the
    scale lowered as in plain mixed precision; the weights are back by then. Without an accelerator it trains in
    bfloat16 and without loss scaling, which its parent does not.

    Raises:
        MmsharpError: float16 without an accelerator; or as in :class:`SharpnessAware`.
    """

    def _ascent_gradients(self, loss: Tensor, chosen: list[AscentParameter]) -> list[Tensor | None]:
        gradients = super()._ascent_gradients(self.loss_scaler.scale(loss), chosen)
        present = [gradient for gradient in gradients if gradient is not None]
        if self.loss_scaler.is_enabled() and present:
            # In the range of bfloat16 the scale grows until squares of scaled gradients overflow. get_scale() would
            # wait for the device.
            scale = self.loss_scaler._get_scale_async()
            assert scale is not None
            inverse = scale.double().reciprocal().float()
            torch._foreach_mul_(present, inverse)
        return gradients

    @property
    def _skips_by_itself(self) -> bool:
        return self.loss_scaler.is_enabled()
