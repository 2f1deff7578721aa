"""The exact bound, against its definition and against scipy's."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from mmsharp.errors import MmsharpError
from mmsharp.robustness.certification import clopper_pearson_upper


@pytest.mark.parametrize('confidence', [0.9, 0.999])
@pytest.mark.parametrize(('failures', 'draws'), [(0, 1000), (1, 1000), (7, 40), (39, 40), (0, 1)])
def test_so_few_failures_are_as_rare_as_said(failures, draws, confidence):
    """P(Binomial(n, u) <= x) = 1 - confidence at the bound, and scipy's own interval has the same end."""
    upper = float(clopper_pearson_upper(failures, draws, confidence))
    assert binom.cdf(failures, draws, upper) == pytest.approx(1 - confidence, rel=1e-9)
    interval = binomtest(failures, draws, alternative='less').proportion_ci(confidence, method='exact')
    assert upper == pytest.approx(interval.high, rel=1e-9)


def test_no_failure_has_a_closed_form():
    """u(0) = 1 - (1 - confidence)^(1/n); all failures give 1."""
    assert clopper_pearson_upper(0, 1000, 0.999) == pytest.approx(1 - 0.001 ** (1 / 1000))
    assert clopper_pearson_upper(10, 10) == 1.0


def test_more_failures_give_a_larger_bound():
    """Arrays go through at once, and the bound rises."""
    found = clopper_pearson_upper(np.arange(51), 50)
    assert found.shape == (51,)
    assert (np.diff(found) > 0).all()


def test_no_counts_have_no_bounds():
    """As other functions of arrays."""
    assert clopper_pearson_upper([], 10).shape == (0,)


@pytest.mark.parametrize(
    ('failures', 'draws', 'confidence'),
    [
        (-1, 10, 0.9),
        (11, 10, 0.9),
        (0, 0, 0.9),
        (0, 5, 1.0),
        (0, 5, np.nan),
        (np.nan, 10, 0.9),
        ([1, np.nan], 10, 0.9),
        (0.5, 10, 0.9),
        (1, 10.5, 0.9),
        (True, 10, 0.9),
        ('1', 10, 0.9),
    ],
)
def test_impossible_counts_are_refused(failures, draws, confidence):
    """Counts are whole and lie between 0 and the number of draws, the confidence between 0 and 1."""
    with pytest.raises(MmsharpError):
        clopper_pearson_upper(failures, draws, confidence)
