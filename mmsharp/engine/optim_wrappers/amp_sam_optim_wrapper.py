"""Sharpness-aware training in mixed precision."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from torch import Tensor

from mmsharp.engine.optim_wrappers.sharpness_aware import SharpnessAware
from mmsharp.errors import MmsharpError
from mmsharp.registry import OPTIM_WRAPPERS
from mmsharp.sharpness import AscentParameter


class _AmpOptimWrapper(AmpOptimWrapper):
    """MMEngine's ``AmpOptimWrapper``, in bfloat16 on CPUs too, where its parent demands an accelerator."""

    def __init__(
        self,
        loss_scale: Any = 'dynamic',
        dtype: str | torch.dtype | None = None,
        use_fsdp: bool = False,
        **kwargs: Any,
    ) -> None:
        if get_device() != 'cpu':
            super().__init__(loss_scale, dtype, use_fsdp, **kwargs)
            return
        if dtype not in (None, 'bfloat16', torch.bfloat16):
            raise MmsharpError(
                f'{type(self).__name__}: dtype={dtype!r} needs an accelerator, and torch sees none; '
                "use dtype='bfloat16'"
            )
        if not _is_loss_scale(loss_scale):
            raise MmsharpError(
                f"{type(self).__name__}: loss_scale={loss_scale!r} is neither 'dynamic' nor a positive number nor a "
                'dict of arguments of GradScaler'
            )
        OptimWrapper.__init__(self, **kwargs)
        self._scale_update_param = None
        # bfloat16 has the range of float32: nothing underflows that would have to be scaled up.
        self.loss_scaler = torch.amp.GradScaler('cpu', enabled=False)
        self.cast_dtype = torch.bfloat16

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The parent's; what training without loss scaling left is no state of a scaler."""
        state = {key: value for key, value in state_dict.items() if key != 'loss_scaler' or value}
        super().load_state_dict(state)


def _is_loss_scale(value: Any) -> bool:
    """What MMEngine's wrapper accepts on an accelerator."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value > 0
    return value == 'dynamic' or isinstance(value, dict)


@OPTIM_WRAPPERS.register_module()
class AmpSAMOptimWrapper(SharpnessAware, _AmpOptimWrapper):
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
