"""Laws of labels: what is tied, directly or through others, has the smallest of its labels for a representative."""

from itertools import pairwise

import numpy as np
import pytest

from mmsharp.pruning.tracing.labels import ChannelLabels


def longhand(count: int, ties: np.ndarray) -> list[int]:
    """The smallest label that each can be reached from, by walking."""
    neighbours: dict[int, set[int]] = {label: set() for label in range(count)}
    for first, second in ties.tolist():
        neighbours[first].add(second)
        neighbours[second].add(first)
    smallest: dict[int, int] = {}
    for start in range(count):
        waiting = [start]
        while waiting:
            label = waiting.pop()
            if label not in smallest:
                smallest[label] = start
                waiting += neighbours[label]
    return [smallest[label] for label in range(count)]


@pytest.mark.parametrize('ties', [0, 30, 90, 300])
def test_roots(ties: int) -> None:
    """Few ties, many, and so many that all are one."""
    labels, pairs = ChannelLabels(), np.random.default_rng(ties).integers(0, 100, (ties, 2))
    labels.fresh(100)
    labels.tie(pairs[:, 0], pairs[:, 1], 'why')
    assert labels.roots().tolist() == longhand(100, pairs)


def test_chain_against_the_order() -> None:
    """A chain whose ties come from its far end is one all the same."""
    labels = ChannelLabels()
    labels.fresh(64)
    order = np.random.default_rng(0).permutation(64)
    for first, second in pairwise(order):
        labels.tie(np.array([first]), np.array([second]), 'why')
    assert not labels.roots().any()


def test_later_ties_count() -> None:
    """Roots that were asked for are not those of what is tied, or made, afterwards."""
    labels = ChannelLabels()
    first = labels.fresh(2)
    assert labels.roots().tolist() == [0, 1]
    labels.tie(first, labels.fresh(2), 'why')
    assert labels.roots().tolist() == [0, 1, 0, 1]
    labels.fresh(1)
    assert labels.roots().tolist() == [0, 1, 0, 1, 4]
