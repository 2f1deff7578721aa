"""Caps of the temperature, and what draws can speak of."""

import math

import numpy as np
import pytest
import torch

from mmsharp.errors import MmsharpError
from mmsharp.robustness.certification import capped_temperatures, chernoff_bound, smallest_supported_rate


@pytest.mark.parametrize('draws', [50, 1000, 20_000])
def test_a_supported_bound_claims_no_more_than_the_draws(draws):
    """Even where nothing ever changes, the bound stays at the smallest rate that the draws can speak of."""
    d = torch.linspace(0.01, 0.5, 7, dtype=torch.float64)
    Z = torch.zeros(7, 2, 5, dtype=torch.float64)
    bounds = chernoff_bound(Z, d, delta=1.0, temperatures=capped_temperatures(d, draws, 'supported'))
    assert bounds.numpy() == pytest.approx(smallest_supported_rate(draws), rel=1e-9)


@pytest.mark.parametrize('cap', ['supported', 10.0, 100.0])
def test_a_capped_bound_is_no_smaller_and_monotone(cap):
    """Fewer temperatures can only give a larger bound, and it still falls with the margin."""
    Z = torch.from_numpy(np.random.default_rng(0).beta(1, 20, (1, 10, 100)))
    d = torch.linspace(0.02, 0.5, 9, dtype=torch.float64)
    many = Z.expand(9, -1, -1)
    capped = chernoff_bound(many, d, temperatures=capped_temperatures(d, 1000, cap))
    assert (capped >= chernoff_bound(many, d) * (1 - 1e-3)).all()  # another grid below the cap
    assert (capped.diff() <= 1e-12).all()


def test_no_cap_is_the_whole_grid():
    """None leaves the default temperatures, and a number ends them there."""
    d = torch.tensor([0.3, 0.4], dtype=torch.float64)
    assert capped_temperatures(d, 1000, None)[0, -1] == pytest.approx(1e4)
    assert capped_temperatures(d, 1000, 7)[0, -1] == pytest.approx(7)
    assert capped_temperatures(d, 1000, 'supported').shape == (2, 500)


def test_what_is_supported_is_seen_with_near_certainty():
    """At 5 / draws, no failure at all is seen in less than 0.7 % of repeats; a fifth of it is missed in a third."""
    draws = 1000
    rate = smallest_supported_rate(draws)
    assert (1 - rate) ** draws < math.exp(-5) < 0.007
    assert 1 / 3 < (1 - rate / 5) ** draws < 0.37


@pytest.mark.parametrize('cap', [0, -1.0, math.inf, math.nan, True, 'low'])
def test_other_caps_are_refused(cap):
    """A cap is a positive number, 'supported' or None."""
    with pytest.raises(MmsharpError, match='supported'):
        capped_temperatures(torch.ones(1), 1000, cap)
