"""Room for pulses in half precision: a lower loss scale while filters are zero.

For a variance of 0, batch normalisation multiplies the gradient of a filter's output by ``1 / sqrt(eps)``. Where that
overflows, the zero weights make NaN of it on its way back, and every gradient of the step is lost.
"""

from __future__ import annotations

from typing import Any

import torch

PULSE = 512.0
"""Power of two above ``1 / sqrt(eps)`` with the usual ``eps = 1e-5`` of batch normalisation."""


class LoweredLossScale:
    """Divides the loss scale of an optimizer wrapper by :data:`PULSE` for a while, where it has one.

    A scale that the scaler has to lower further in the meantime stays lower; one that it raises is lowered again when
    it is asked for again, and does not get higher than it was.

    Args:
        wrapper: Any optimizer wrapper; one without an enabled ``loss_scaler`` is left alone.

    Example:
        >>> class Wrapper:
        ...     loss_scaler = torch.amp.GradScaler('cpu')
        >>> scale = LoweredLossScale(Wrapper())
        >>> scale.lower()
        >>> Wrapper.loss_scaler.get_scale()
        128.0
        >>> scale.restore()
        >>> Wrapper.loss_scaler.get_scale()
        65536.0
    """

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        self.before: float | None = None
        """The scale to go back to, while it is lowered."""

    @property
    def now(self) -> float:
        """The loss scale in force, 1 where there is none."""
        scaler = self._scaler()
        return 1.0 if scaler is None else float(scaler.get_scale())

    def lower(self) -> None:
        """Lower it, unless it is as low already."""
        scaler = self._scaler()
        if scaler is None:
            return
        scale = float(scaler.get_scale())
        self.before = scale if self.before is None else self.before
        if scale > self.before / PULSE:
            self._set(scaler, self.before / PULSE)

    def restore(self) -> None:
        """Go back."""
        scaler = self._scaler()
        if scaler is not None and self.before is not None:
            self._set(scaler, min(self.before, float(scaler.get_scale()) * PULSE))
        self.before = None

    def go_on(self, before: float | None) -> None:
        """Take over :attr:`before` from a checkpoint; the scaler's own scale has been loaded."""
        self.before = before
        scaler = self._scaler()
        if scaler is not None and before is not None:
            self._set(scaler, float(scaler.get_scale()))

    def _set(self, scaler: torch.amp.GradScaler, scale: float) -> None:
        if isinstance(getattr(self._wrapper, '_scale_update_param', None), (int, float)):
            self._wrapper._scale_update_param = scale  # a fixed scale, which the wrapper sets after every step
        scaler.scale(torch.ones((), device=scaler._device))  # it has no scale to update before the first loss
        scaler.update(scale)

    def _scaler(self) -> torch.amp.GradScaler | None:
        scaler = getattr(self._wrapper, 'loss_scaler', None)
        return scaler if isinstance(scaler, torch.amp.GradScaler) and scaler.is_enabled() else None
