"""Laws of the scalars of a step: each group's own, means over groups of sparsity, shares over channels of pruning."""

import pytest
from mmengine.logging import MessageHub

from mmsharp.engine.pruning.soft_pruning.pruning_scalars import update_scalars


def test_totals_are_of_channels_and_not_of_groups():
    """Written out for two groups of unlike size; a second step takes the place of the first."""
    lines = [
        dict(group='a', channels=4, zeroed=3, pruning_ratio=0.75, sparsity_ratio=0.5, protected=2, held=1),
        dict(group='b', channels=12, zeroed=1, pruning_ratio=1 / 12, sparsity_ratio=0.1, protected=1, held=0),
    ]
    hub = MessageHub('laws of pruning scalars')
    update_scalars(hub, [dict(line, protected=9, zeroed=0) for line in lines])
    update_scalars(hub, lines)

    def now(name):
        return float(hub.get_scalar(name).current())

    for line in lines:
        for name in ('sparsity_ratio', 'pruning_ratio', 'protected', 'held'):
            assert now(f'psap/{line["group"]}/{name}') == line[name]
    assert now('train/pruning/sparsity_ratio') == pytest.approx(0.3)
    assert now('train/pruning/pruning_ratio') == 4 / 16
    assert now('train/pruning/protected') == 3
    assert now('train/pruning/held') == 1
