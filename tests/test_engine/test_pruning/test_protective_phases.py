"""Laws of the phases of PSAP: every step is taken once, where the optimizer begins one, and its window fits."""

import math

import pytest

from mmsharp.engine.pruning.phases import ends_of
from mmsharp.engine.pruning.protective_phases import HARD, SOFT, interval_of_parts, protective_phases
from mmsharp.errors import MmsharpError


@pytest.mark.parametrize('stride', [1, 2, 3, 5])
@pytest.mark.parametrize('interval', [5, 7, 10])
@pytest.mark.parametrize('warm_up', [0, 4, 11])
def test_steps_are_taken_once_and_in_order(stride, interval, warm_up):
    """At most ``stride - 1`` iterations late, never with a window beyond the phase, progress never falling."""
    window = stride
    phases = protective_phases(warm_up, 60, 10, 0.5, interval, 100, 1, stride, window)
    taken = [(i, phases.soft_progress(i)) for i in range(100) if phases.soft_progress(i) is not None]
    due = [i for i in range(warm_up + interval, warm_up + 60, interval)]
    assert len(due) - 1 <= len(taken) <= len(due)
    assert phases.soft_end % stride == 0
    for (iteration, _), wanted in zip(taken, due):
        assert iteration % stride == 0
        assert wanted <= iteration < wanted + stride
        assert iteration + window <= phases.soft_end
    shares = [progress for _, progress in taken]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert shares.index(1.0) == pytest.approx(len(taken) / 2, abs=1.5)


def test_masks_are_held_from_one_step_on():
    """One hard step, just before the hard phase; none where it has no length."""
    phases = protective_phases(5, 20, 10, 1.0, 4, 100, 1)
    assert [i for i in range(100) if phases.progress(i) is not None] == [25]
    assert (phases.at(24), phases.at(25), phases.at(34)) == (SOFT, HARD, HARD)
    phases = protective_phases(5, 20, 0, 1.0, 4, 100, 1)
    assert [i for i in range(100) if phases.progress(i) is not None] == []
    assert phases.at(25) == 'fine-tuning'


def test_a_ramp_of_nothing_asks_for_all_at_once():
    """The first soft step goes to the budget."""
    phases = protective_phases(0, 20, 0, 0.0, 4, 100, 1)
    assert [phases.soft_progress(iteration) for iteration in (0, 4, 8)] == [None, 1.0, 1.0]


@pytest.mark.parametrize('shares', [(0.0, 0.5, 0.5), (0.25, 0.5, 0.25), (0.1, 0.65, 0.25), (0.1, 0.2, 0.7)])
@pytest.mark.parametrize('stride', [1, 2])
def test_shares_of_one_fill_the_run(shares, stride):
    """Whatever they are rounded to, up to the step of the optimizer that the masks begin with."""
    for iterations in range(20, 200):
        phases = protective_phases(*shares, 0.5, 2, iterations, 1, stride)
        assert iterations - stride < phases.pruning_end <= iterations
        assert abs(phases.soft_end - sum(shares[:2]) * iterations) < stride


def test_what_does_not_fit_is_refused():
    """With the numbers."""
    with pytest.raises(MmsharpError, match='only 100 iterations'):
        protective_phases(0.5, 0.4, 0.2, 0.5, 4, 100, 1)
    with pytest.raises(MmsharpError, match=r'pruning=100 is a soft phase that lasts to the end.*no mask'):
        protective_phases(0, 100, 0, 0.5, 4, 100, 1)
    with pytest.raises(MmsharpError, match='interval=3'):
        protective_phases(0, 20, 0, 0.5, 3, 100, 1, stride=2, window=4)
    with pytest.raises(MmsharpError, match='no step fits after interval=20'):
        protective_phases(5, 20, 0, 0.5, 20, 100, 1, stride=1, window=1)


@pytest.mark.parametrize('parts', [1, 2, 8, 30])
def test_parts_of_a_soft_phase_are_about_equal(parts):
    """At most so many, the last of half an interval at least, and no shorter interval has both."""
    for length in range(1, 300):
        fits = [
            interval
            for interval in range(1, length + 1)
            if math.ceil(length / interval) <= parts
            and 2 * (length - (math.ceil(length / interval) - 1) * interval) >= interval
        ]
        assert interval_of_parts(length, parts) == min(fits)


def test_an_interval_of_parts_knows_the_warm_up():
    """Whatever rounding does to the beginning of the soft phase, the last step is not just before its end."""
    for per_epoch in range(100, 260):
        begin, end = ends_of((0.05, 0.25), 10 * per_epoch, per_epoch)
        interval = interval_of_parts(end - begin, 8)
        phases = protective_phases(0.05, 0.25, 0, 2 / 3, interval, 10 * per_epoch, per_epoch, window=1)
        steps = [step for step in range(10 * per_epoch) if phases.soft_progress(step) is not None]
        assert 2 * (phases.soft_end - steps[-1]) >= interval
