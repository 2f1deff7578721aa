"""The numbers of a pruning step as scalars of the message hub: by group, and over all groups among the training's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.logging import MessageHub

BY_GROUP = ('sparsity_ratio', 'pruning_ratio', 'protected', 'held')
TOTALS = ('protected', 'held')


def update_scalars(hub: MessageHub, lines: Sequence[Mapping[str, Any]]) -> None:
    """``psap/<group>/...`` for every line, and means and sums as ``train/pruning/...``, which the log shows.

    Args:
        hub: Of the runner.
        lines: One per group, as :func:`~mmsharp.engine.pruning.soft_pruning.pruning_log.step_lines` makes them.

    Example:
        >>> hub = MessageHub('example of pruning scalars')
        >>> numbers = dict(sparsity_ratio=0.5, pruning_ratio=0.5, protected=1, held=0)
        >>> update_scalars(hub, [dict(numbers, group='stem', zeroed=2, channels=4)])
        >>> float(hub.get_scalar('train/pruning/pruning_ratio').current())
        0.5
    """
    for line in lines:
        for name in BY_GROUP:
            hub.update_scalar(f'psap/{line["group"]}/{name}', line[name])
    totals = {name: sum(line[name] for line in lines) for name in ('zeroed', 'channels', *TOTALS)}
    hub.update_scalar('train/pruning/sparsity_ratio', sum(line['sparsity_ratio'] for line in lines) / len(lines))
    hub.update_scalar('train/pruning/pruning_ratio', totals['zeroed'] / totals['channels'])
    for name in TOTALS:
        hub.update_scalar(f'train/pruning/{name}', totals[name])
