"""What a rule is given, and what all rules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from mmsharp.pruning.tracing.labels import Labels

if TYPE_CHECKING:
    from mmsharp.pruning.tracing import ChannelTrace

FIXED = 'meets a tensor whose channels are fixed'


class Call(NamedTuple):
    """One operation that ran: its arguments by name, its tensors in and out, whether its products are counted.

    ``strides`` are those of the tensors in, before it ran.
    """

    name: str
    arguments: dict[str, Any]
    inputs: list[Tensor]
    outputs: list[Tensor]
    counted: bool
    strides: list[tuple[int, ...]]


PER_CHANNEL = (
    r'_?(max_pool|avg_pool|adaptive_avg_pool|adaptive_max_pool|upsample_\w+|reflection_pad|replication_pad)[123]d\w*'
)
"""Names of the operations that pool, resize or pad each channel by itself."""

Rule = Callable[['ChannelTrace', Call], None]


def tie_all(trace: ChannelTrace, sides: list[Labels | None], what: str) -> Labels | None:
    """Tie several axes, position by position; one of fixed size pins the others."""
    if all(side is None for side in sides):
        return None
    tied = sides[0]
    for side in sides[1:]:
        tied = trace.labels.tie(tied, side, trace.because(what))
    return tied


def reduced_dimensions(call: Call, x: Tensor) -> set[int]:
    """The dimensions that a statistic is taken over."""
    dims = call.arguments.get('dim')
    return {dim % x.dim() for dim in ([dims] if isinstance(dims, int) else list(dims or range(x.dim())))}
