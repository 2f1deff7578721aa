"""Plain mixed precision that runs without an accelerator too, so that there is something to compare with there."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import OptimWrapper

from mmsharp.errors import MmsharpError
from mmsharp.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(MMEngineAmpOptimWrapper):
    """MMEngine's ``AmpOptimWrapper``, in bfloat16 on CPUs too, where its parent demands an accelerator.

    Args:
        loss_scale: As the parent's; without an accelerator nothing is scaled.
        dtype: ``'float16'`` or ``'bfloat16'``; without an accelerator ``'bfloat16'`` alone, which ``None`` stands for.
        use_fsdp: As the parent's.
        kwargs: Those of MMEngine's ``OptimWrapper``.

    Raises:
        MmsharpError: Another dtype without an accelerator, or a loss scale that the parent would refuse there.
    """

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
