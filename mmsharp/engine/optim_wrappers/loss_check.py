"""Whether the loss that a loop hands over is the one that the captured forward pass leads to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmsharp.errors import MmsharpError

READ_EVERY = 50
"""Steps between two looks on a device that has to be waited for; what differed meanwhile is not lost."""


class LossCheck:
    """Compares the two at every step: a second pass would drop what somebody added to the loss, or its factor.

    Where both are finite they have to be equal up to rounding. On a CPU a difference ends the step that it appears in,
    before anything has moved; on other devices the first step's does, and later ones within :data:`READ_EVERY` steps.

    Args:
        owner: Who was given the loss, for the message.

    Example:
        >>> from mmengine.model import BaseModel
        >>> class Two(BaseModel):
        ...     def forward(self, inputs=None, mode='loss'):
        ...         return dict(loss=torch.tensor(2.0))
        >>> check, model = LossCheck('SAMOptimWrapper'), Two()
        >>> check.see(model, (), model())
        >>> check(model, torch.tensor(1.0), factor=0.5)
        >>> check.see(model, (), model())
        >>> check(model, torch.tensor(4.0), factor=0.5)
        Traceback (most recent call last):
        mmsharp.errors.MmsharpError: the loss given to SAMOptimWrapper is 8, ...
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.forget()

    def forget(self) -> None:
        """Begin anew, with another model."""
        self._steps = 0
        self._pair: Tensor | None = None
        """The first pair of losses that differ, as handed over and expected; zeros while there is none."""
        self.drop()

    def drop(self) -> None:
        """Let go of the output of a step that is over."""
        self._output: Any = None

    def see(self, model: nn.Module | None, arguments: Any, output: Any) -> None:
        """A forward hook: keep the losses as the model gives them."""
        self._output = output

    @torch.no_grad()
    def __call__(self, model: nn.Module, loss: Tensor, factor: float) -> None:
        """Compare.

        Args:
            model: MMEngine's, without the wrapper of distributed training.
            loss: As handed over.
            factor: What it was multiplied with since it left the model.

        Raises:
            MmsharpError: It is another one, or the forward gave no losses.
        """
        output, self._output = self._output, None
        if output is None:
            return
        expected = total_loss(model, output).detach()
        pair = torch.stack([(loss.detach() / factor).to(expected.device).float(), expected.float()])
        rounding = 1e-4 if loss.element_size() >= 4 else 1e-2
        apart = ((pair[0] - pair[1]).abs() > rounding * pair.abs().max() + 1e-12) & pair.isfinite().all()
        first = torch.zeros_like(pair) if self._pair is None else self._pair
        self._pair = torch.where(apart & (first == 0).all(), pair, first)
        self._steps += 1
        if pair.device.type == 'cpu' or self._steps % READ_EVERY == 1:
            found, wanted = self._pair.tolist()
            if found or wanted:
                raise MmsharpError(
                    f'the loss given to {self.owner} is {found:.6g}, but the forward pass that it saw gives '
                    f'{wanted:.6g}: {type(model).__name__}.train_step adds to the loss, or makes several contexts '
                    'before one update; put such terms into the losses that its forward returns'
                )


def total_loss(model: nn.Module, output: Any) -> Tensor:
    """The loss to minimise, out of what a model's forward gives.

    Raises:
        MmsharpError: The output is no mapping of losses.

    Example:
        >>> from mmengine.model import BaseModel
        >>> class Any(BaseModel):
        ...     def forward(self): ...
        >>> total_loss(Any(), dict(loss_a=torch.tensor(1.0), loss_b=torch.tensor(2.0), accuracy=torch.tensor(9.0)))
        tensor(3.)
    """
    if not isinstance(output, Mapping):
        raise MmsharpError(
            f'{type(model).__name__}.forward returned a {type(output).__name__} inside optim_context, expected a dict '
            "of losses; call the model with mode='loss' there, as BaseModel.train_step does"
        )
    return model.parse_losses(output)[0]  # type: ignore[operator]
