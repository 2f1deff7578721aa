"""What a row of the table of prunable layers says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Axis:
    """One axis of a layer.

    Args:
        tensors: Dimension of the axis in each parameter, buffer or plain tensor that has it, by name.
        sizes: Attributes of the module that hold the axis' size, ``name.index`` for an item of a list; without any,
            the tensor's shape says it.
        runs_of: Name of another axis of the layer, each channel of which is a run of equal length of this one: the
            output channels of a convolution in groups are runs of its groups.
        parts: Attribute with the number of equal parts of the axis, each of which keeps as many channels.
        same_as: Path of a module inside of this one (``''`` for itself) and the name of its axis that this one is: for
            an attribute that holds the width of another layer.
        tiles_of: Name of another axis, all of whose channels follow each other once or more often along this one.
    """

    tensors: Mapping[str, int]
    sizes: tuple[str, ...]
    runs_of: str | None = None
    tiles_of: str | None = None
    same_as: tuple[str, str] | None = None
    parts: str | None = None


@dataclass(frozen=True)
class LayerKind:
    """One row of the table.

    Args:
        name: Name of the kind, used in recipes.
        matches: Whether a module is of this kind.
        axes: The axes by name: ``'out'`` holds the channels that the layer gives, ``'in'`` those that it sums over
            (absent from layers that keep channels apart), others are explained where their row is.
        slim_forward: Takes the place of the module's forward once it has shrunk, for code that asks its input how wide
            its own inner channels are.
        dense_axis: Axis whose size in the dense model the slim forward takes as its second argument: statistics over
            channels stay those of the masked model where dead channels are zero and still counted.
        head_width: Attribute with the width of a head, where a reshape to heads is not the first one of the channels.
    """

    name: str
    matches: Callable[[nn.Module], bool]
    axes: Mapping[str, Axis] = field(default_factory=dict)
    slim_forward: Callable[..., Any] | None = None
    head_width: str | None = None
    dense_axis: str | None = None

    @property
    def out(self) -> Axis:
        """The axis of the channels that the layer gives."""
        return self.axes['out']

    @property
    def inward(self) -> Axis | None:
        """The axis of the channels that the layer sums over; ``None`` for layers that keep channels apart."""
        return self.axes.get('in')

    def axis(self, name: str) -> Axis | None:
        """The axis of this name, if the layer has it."""
        return self.axes.get(name)


def defines_forward(*paths: str) -> Callable[[nn.Module], bool]:
    """Whether a module's forward is the one that a class of these import paths defines.

    Example:
        >>> matches = defines_forward('torch.nn.modules.linear.Linear')
        >>> matches(nn.Linear(1, 1)), matches(nn.Bilinear(1, 1, 1))
        (True, False)
    """

    def matches(module: nn.Module) -> bool:
        cls: Any = type(module)
        return _owner_of_forward(cls) in paths

    return matches


@cache
def _owner_of_forward(cls: Any) -> str:
    """Import path of the class that a class has its forward from."""
    owner = next((base for base in cls.__mro__ if 'forward' in base.__dict__), cls)
    return f'{owner.__module__}.{owner.__qualname__}'
