import itertools
import math

import pytest

from mmsharp.errors import MmsharpError
from mmsharp.registry import SCHEDULES, build_part

SCHEDULES.import_from_location()
every = pytest.mark.parametrize('name', sorted(SCHEDULES.module_dict))


@every
@pytest.mark.parametrize('target', [0.05, 0.4, 1.0])
def test_from_dense_to_target_without_going_back(name, target):
    """Everything at progress 0, the target at 1, never rising between, never below the target."""
    schedule = build_part(SCHEDULES, {'type': name})
    kept = [schedule(step / 20, target) for step in range(21)]
    assert kept[0] == 1
    assert kept[-1] == target
    assert all(first >= second >= target for first, second in itertools.pairwise(kept))


@every
@pytest.mark.parametrize(('progress', 'target'), [(-0.1, 0.5), (1.1, 0.5), (0.5, 0.0), (0.5, 1.5), (math.nan, 0.5)])
def test_outside_the_range_is_refused(name, progress, target):
    """Progress outside [0, 1] and targets outside (0, 1]."""
    with pytest.raises(MmsharpError, match='schedule:'):
        build_part(SCHEDULES, {'type': name})(progress, target)


def test_force_longhand():
    """``k_r = exp(a log k + (1 - a) log m)`` with m channels, k to be kept, a the progress."""
    m, k, progress = 512, 64, 0.3
    expected = math.exp(progress * math.log(k) + (1 - progress) * math.log(m)) / m
    assert build_part(SCHEDULES, {'type': 'FORCE'})(progress, k / m) == pytest.approx(expected)


def test_one_shot_waits():
    """Nothing before its moment."""
    assert build_part(SCHEDULES, {'type': 'OneShot', 'at': 1.0})(0.99, 0.5) == 1
    with pytest.raises(MmsharpError, match='at is 2'):
        build_part(SCHEDULES, {'type': 'OneShot', 'at': 2})
