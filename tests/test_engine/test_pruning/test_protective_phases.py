"""Laws of the phases of PSAP: every step is taken once, where the optimizer begins one, and its window fits."""

import itertools
import math
from types import SimpleNamespace

import pytest

from mmsharp.engine.hooks import PSAPHook
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
@pytest.mark.parametrize(('stride', 'window'), [(1, 0), (1, 1), (1, 6), (4, 4), (4, 8)])
def test_parts_of_a_soft_phase_are_about_equal(parts, stride, window):
    """At most so many, all with training behind their windows, and no shorter interval has that.

    Where none has, there is one step, as late as its window allows.
    """

    def fits(length, interval):
        steps = list(range(interval, length, interval))
        behind = length - (steps[-1] if steps else 0) - window
        return len(steps) < parts and interval >= 2 * window and 2 * behind >= interval - window

    for length in range(stride, 300, stride):
        wanted = [interval for interval in range(stride, length - window + 1, stride) if fits(length, interval)]
        latest = max(stride, window, (length - window) // stride * stride)
        assert interval_of_parts(length, parts, stride, window) == min(wanted, default=latest)


@pytest.mark.parametrize('watch', [1, 2])
@pytest.mark.parametrize('stride', [1, 2, 3, 16])
@pytest.mark.parametrize('by_epoch', [True, False])
def test_the_hook_lays_equal_parts_wherever_the_soft_phase_begins(stride, watch, by_epoch):
    """No window ends just before the masks, whatever rounding does; and a short phase has a step if one fits."""
    protection = dict(type='mmsharp.ProtectiveReconstruction', watch=watch)
    hook, window = PSAPHook(dict(params=0.5), warmup=0.05, pruning=0.25, protection=protection), stride * watch
    for per_epoch in [*range(1, 60), *range(160, 220)]:
        total = 10 * per_epoch
        runner = SimpleNamespace(
            optim_wrapper=SimpleNamespace(_accumulative_counts=stride),
            train_loop=SimpleNamespace(dataloader=range(per_epoch)),
        )
        begin, end = ends_of((0.05, 0.25), total, per_epoch if by_epoch else 1)
        soft = end // stride * stride - math.ceil(begin / stride) * stride
        if soft < 2 * window:
            continue
        phases = hook.lay_phases(runner, total, per_epoch if by_epoch else 1)
        steps = [step for step in range(total) if phases.soft_progress(step) is not None]
        assert steps
        assert {after - before for before, after in itertools.pairwise(steps)} <= {hook.interval}
        if soft >= 4 * window:
            assert 2 * (phases.soft_end - steps[-1] - window) >= hook.interval - window


@pytest.mark.parametrize('iterations', range(1, 5))
def test_a_soft_phase_that_is_too_short_is_refused_at_once(iterations):
    """Where no step and its window fit; otherwise it has its one."""
    hook = PSAPHook(dict(params=0.5), pruning=iterations)
    runner = SimpleNamespace(
        optim_wrapper=SimpleNamespace(_accumulative_counts=1), train_loop=SimpleNamespace(dataloader=range(8))
    )
    if iterations == 1:
        with pytest.raises(MmsharpError, match='no step fits after interval=1; make the phase longer'):
            hook.lay_phases(runner, 8, 1)
    else:
        phases = hook.lay_phases(runner, 8, 1)
        assert any(phases.soft_progress(step) for step in range(8))


@pytest.mark.parametrize('stride', [2, 4])
def test_masks_without_a_soft_phase_come_where_the_optimizer_begins_a_step(stride):
    """Also after a warm-up that ends between two."""
    for warm_up in range(12):
        phases = protective_phases(warm_up, 0, 20, 0.5, 10, 100, 1, stride, stride)
        assert (phases.soft_end % stride, phases.soft_end) == (0, warm_up // stride * stride)
        assert [step for step in range(100) if phases.progress(step) is not None] == [phases.soft_end]
        assert not any(phases.soft_progress(step) for step in range(100))
