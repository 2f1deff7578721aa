"""Which parameters the ascent moves, while stages of the model are frozen and thawed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.sharpness import AscentParameter, select_parameters, validate_filter


class MovedParameters:
    """A filter of parameters, applied to a model when it is first seen and again when what trains has changed.

    Args:
        which: As in :func:`~mmsharp.sharpness.select_parameters`; ``None`` leaves it to the ascent.

    Raises:
        MmsharpError: ``which`` is no filter.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> moved = MovedParameters(None)
        >>> [parameter.name for parameter in moved.of(model, 'all')]
        ['weight', 'bias']
        >>> _ = model.bias.requires_grad_(False)
        >>> [parameter.name for parameter in moved.of(model, 'all')]
        ['weight']
    """

    def __init__(self, which: str | Sequence[str] | None) -> None:
        if which is not None:
            validate_filter(which)
        self._which = which
        self._trainable: tuple[bool, ...] = ()
        self.selected: list[AscentParameter] | None = None
        """What the filter chose last, frozen ones since then included; ``None`` before a model was seen."""

    def of(self, model: nn.Module, default: str) -> list[AscentParameter]:
        """The parameters of ``model`` that move and train now; none where all are frozen by now.

        Args:
            model: Without the wrapper of distributed training.
            default: The filter where the user named none.

        Raises:
            MmsharpError: The filter selects nothing of a model that is seen for the first time.
        """
        which = default if self._which is None else self._which
        trainable = tuple(parameter.requires_grad for parameter in model.parameters())
        if self.selected is None:
            self.selected = select_parameters(model, which)
        elif trainable != self._trainable:
            with suppress(MmsharpError):  # a pattern whose parameters are frozen by now is no reason to stop
                self.selected = select_parameters(model, which)
        self._trainable = trainable
        return [parameter for parameter in self.selected if parameter.tensor.requires_grad]

    def forget(self) -> None:
        """Look at the model anew when it is seen next."""
        self.selected = None
