"""Seeds of one method are put together, and nothing is averaged that is not there."""

import math

import pytest

from mmsharp.errors import MmsharpError
from mmsharp.robustness import mean_over_seeds


def _comparison(**clean):
    """Runs with these clean values, half of them on corrupted images."""
    scores = {
        name: dict(clean=value, mpc=None if value is None else value / 2, rpc=0.5) for name, value in clean.items()
    }
    return dict(runs=[dict(name=name, scores=found) for name, found in scores.items()])


def test_mean_and_spread_are_those_of_the_textbook():
    """The spread with one less than the runs in the denominator; the order is that of the first runs."""
    rows = mean_over_seeds(_comparison(dense=80.0, sgd_seed0=70.0, adasap_seed0=72.0, sgd_seed1=73.0, sgd_seed2=76.0))
    assert [(row['name'], row['runs']) for row in rows] == [('dense', 1), ('sgd', 3), ('adasap', 1)]
    assert rows[1]['clean'] == dict(mean=73.0, spread=3.0)
    assert rows[1]['mpc']['mean'] == 36.5
    assert rows[1]['mpc']['spread'] == pytest.approx(math.sqrt((1.5**2 + 0 + 1.5**2) / 2))
    assert rows[1]['rpc'] == dict(mean=0.5, spread=0.0)


def test_one_run_has_no_spread():
    """As the dense detector, which is trained once."""
    rows = mean_over_seeds(_comparison(dense=80.0, sgd_seed0=70.0, sgd_seed1=73.0))
    assert rows[0]['clean'] == dict(mean=80.0, spread=None)


def test_a_score_that_one_run_lacks_is_no_mean_of_the_others():
    """Runs that were broken off have no mPC."""
    rows = mean_over_seeds(_comparison(sgd_seed0=70.0, sgd_seed1=None))
    assert rows[0]['clean'] == rows[0]['mpc'] == dict(mean=None, spread=None)


@pytest.mark.parametrize(
    ('name', 'method'),
    [
        ('run/sgd_seed{}/robust', 'run/sgd/robust'),
        ('sgd-seed-{}', 'sgd'),
        ('seed{}_sgd', 'sgd'),
        ('sgd/seed{}', 'sgd'),
        ('seed{}', 'all'),
    ],
)
def test_the_seed_may_be_anywhere_in_a_name(name, method):
    """In a folder above, too; without it, a name is left."""
    clean = {name.format(seed): 70.0 + seed for seed in (0, 10)}
    [row] = mean_over_seeds(_comparison(**clean))
    assert (row['name'], row['runs']) == (method, 2)


def test_names_without_seeds_are_refused():
    """With the names, and what they should look like."""
    with pytest.raises(MmsharpError, match=r'dense, slim are one of each method; .*sgd_seed0 and sgd_seed1'):
        mean_over_seeds(_comparison(dense=80.0, slim=70.0))
