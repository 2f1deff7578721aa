"""Whether the loss that a loop hands over is the one that the captured forward pass leads to."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from mmsharp.errors import MmsharpError


class LossCheck:
    """Compares the two at the first step where both are finite; a second pass would drop what was added to the loss.

    Args:
        owner: Who was given the loss, for the message.

    Example:
        >>> import torch
        >>> from mmengine.model import BaseModel
        >>> class Two(BaseModel):
        ...     def forward(self, inputs=None, mode='loss'):
        ...         return dict(loss=torch.tensor(2.0))
        >>> check, model = LossCheck('SAMOptimWrapper'), Two()
        >>> check.see(model, (), model())
        >>> check(model, torch.tensor(1.0), factor=0.5)
        >>> check.is_done
        True
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.forget()

    def forget(self) -> None:
        """Look once more, at another model."""
        self.is_done = False
        self.drop()

    def drop(self) -> None:
        """Let go of the output of a step that is over."""
        self._output: Any = None

    def see(self, model: nn.Module | None, arguments: Any, output: Any) -> None:
        """A forward hook: keep the losses as the model gives them."""
        self._output = output

    def __call__(self, model: nn.Module, loss: Tensor, factor: float) -> None:
        """Compare.

        Args:
            model: MMEngine's, without the wrapper of distributed training.
            loss: As handed over.
            factor: What it was multiplied with since it left the model.

        Raises:
            MmsharpError: It is another one.
        """
        output, self._output = self._output, None
        if self.is_done or output is None:
            return
        expected = float(model.parse_losses(output)[0].detach())  # type: ignore[operator]
        found = float(loss.detach()) / factor
        if not math.isfinite(expected) or not math.isfinite(found):
            return
        rounding = 1e-4 if loss.element_size() >= 4 else 1e-2
        if not math.isclose(expected, found, rel_tol=rounding, abs_tol=1e-12):
            raise MmsharpError(
                f'the loss given to {self.owner} is {found:.6g}, but the forward pass that it saw gives '
                f'{expected:.6g}: {type(model).__name__}.train_step adds to the loss, or makes several contexts before '
                'one update; put such terms into the losses that its forward returns'
            )
        self.is_done = True
