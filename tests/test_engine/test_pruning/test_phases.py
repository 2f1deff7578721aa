"""Laws of the phases: every iteration belongs to one, and pruning ends at progress 1."""

import pytest

from mmsharp.engine.pruning.phases import Phases, phases_from_lengths, validate_length
from mmsharp.errors import MmsharpError


@pytest.mark.parametrize('interval', [1, 7, 30, 1000])
def test_progress_rises_in_equal_steps_to_one(interval):
    """The steps are evenly spaced in progress, the last one is 1, and none lies outside the pruning phase."""
    phases = Phases(warm_up_end=13, pruning_end=97, interval=interval)
    due = [(i, phases.progress(i)) for i in range(200) if phases.progress(i) is not None]
    assert due[0][0] == 13
    assert due[-1][1] == 1.0
    assert all(13 <= iteration < 97 for iteration, _ in due)
    assert [progress for _, progress in due] == pytest.approx([(k + 1) / len(due) for k in range(len(due))])


def test_shares_and_counts_mean_what_they_say():
    """A float is a share of all iterations, an int counts epochs (or iterations, with one iteration a unit)."""
    assert phases_from_lengths(0.1, 2, 5, max_iters=200, iters_per_unit=20) == Phases(20, 60, 5)
    assert phases_from_lengths(10, 30, 5, max_iters=200, iters_per_unit=1) == Phases(10, 40, 5)


def test_without_a_pruning_phase_nothing_is_due_before_fine_tuning():
    """pruning=0 is one shot: the hook prunes on entering fine-tuning."""
    phases = phases_from_lengths(0.5, 0, 5, max_iters=10, iters_per_unit=1)
    assert all(phases.progress(iteration) is None for iteration in range(10))
    assert [phases.at(4), phases.at(5)] == ['warm-up', 'fine-tuning']


def test_phases_longer_than_the_run_are_refused():
    """With the numbers that do not fit."""
    with pytest.raises(MmsharpError, match='iteration 300, but training has only 200'):
        phases_from_lengths(5, 10, 5, max_iters=200, iters_per_unit=20)


@pytest.mark.parametrize('length', [-1, 1.0, 1.5, -0.1, True, '3', None, float('nan')])
def test_lengths_that_mean_nothing_are_refused(length):
    """Neither a share in [0, 1) nor a whole number."""
    with pytest.raises(MmsharpError, match='warmup'):
        validate_length('warmup', length)


def test_shares_of_one_fill_the_run():
    """The ends are rounded, and not the lengths, which would exceed it."""
    for iterations in range(2, 100):
        assert phases_from_lengths(0.5, 0.5, 1, iterations, 1).pruning_end == iterations
