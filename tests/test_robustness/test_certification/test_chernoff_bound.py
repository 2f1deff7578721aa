"""CC-Cert's bound: its formula written out, its laws, and the published arithmetic."""

import math

import numpy as np
import pytest
import torch

from mmsharp.errors import MmsharpError
from mmsharp.robustness.certification import chernoff_bound, geometric_temperatures, official_temperatures


def draws(images=3, groups=4, count=30, seed=0):
    """Discrepancies between 0 and 0.4, and margins."""
    generator = np.random.default_rng(seed)
    Z = torch.from_numpy(generator.beta(2, 8, (images, groups, count)))
    return Z, torch.from_numpy(generator.uniform(0.2, 0.5, images))


def test_the_bound_is_the_formula_longhand():
    """max_j min_t mean_i exp(t Z_ij) / exp(t d) / delta, with plain exponentials where these fit."""
    Z, d = draws()
    grid = np.geomspace(1e-3, 100, 40)
    expected = []
    for image, margin in zip(Z.numpy(), d.numpy(), strict=True):
        least = [min(np.mean(np.exp(t * group)) / np.exp(t * margin) for t in grid) for group in image]
        expected.append(min(1.0, max(least) / 0.9))
    found = chernoff_bound(Z, d, temperatures=torch.from_numpy(grid))
    assert found.dtype == torch.float64
    assert found.numpy() == pytest.approx(expected, rel=1e-12)


def test_the_published_arithmetic_longhand():
    """float32, 500 equal steps, infinities and NaN as they come; NaN is behind every number in torch's topk."""
    Z, d = draws()
    Z[0], d[0] = Z[0] * 0.1, 0.4  # exp(t d) overflows before the means: a bound of 0
    t = torch.linspace(1e-4, 1e4, 500)
    ratio = torch.exp(Z.float()[..., None] * t).mean(dim=2) / torch.exp(torch.outer(d.float(), t))[:, None, :]
    least = torch.topk(ratio, 1, dim=2, largest=False).values[..., 0]
    expected = torch.minimum(torch.ones(3), least.max(dim=1).values / 0.9)
    found = chernoff_bound(Z, d, compat='official')
    assert found.dtype == torch.float32
    assert expected[0] == 0
    assert expected[1] > 0
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_the_published_grid_is_too_coarse_and_overflows():
    """What the published numbers lose: the best temperature between 1e-4 and 20, and all those beyond float32."""
    few = torch.full((1, 10, 100), 0.05, dtype=torch.float64)
    few[:, :, 0] = 0.6  # one in a hundred exceeds the margin
    d = torch.tensor([0.4], dtype=torch.float64)
    assert chernoff_bound(few, d).item() < 0.3
    assert chernoff_bound(few, d, compat='official').item() > 0.5
    near = torch.linspace(0.2, 0.30, 1000, dtype=torch.float64).reshape(1, 10, 100)
    d = torch.tensor([0.31], dtype=torch.float64)
    assert chernoff_bound(near, d).item() < 1e-40
    assert chernoff_bound(near, d, compat='official').item() > 1e-3


@pytest.mark.parametrize('compat', [None, 'official'])
@pytest.mark.parametrize('shrink', [1.0, 0.3, 0.01])
@pytest.mark.parametrize('seed', range(3))
def test_the_bound_falls_with_the_margin_and_rises_with_every_discrepancy(seed, shrink, compat):
    """Monotone in d and in Z, with the published overflows too: small discrepancies lead to these."""
    Z = draws(images=1, seed=seed)[0] * shrink
    d = torch.linspace(0.005, 0.5, 100, dtype=torch.float64)
    rounding = 1e-5 if compat else 0.0
    bounds = chernoff_bound(Z.expand(100, -1, -1), d, compat=compat)
    assert (bounds[1:] <= bounds[:-1] * (1 + rounding)).all()
    assert bounds[0] > bounds[-1]
    for margin in (d[10:11], d[-1:]):
        before = chernoff_bound(Z, margin, compat=compat)
        for index in range(0, Z.numel(), 7):
            for raise_by in (0.1, 0.5):
                raised = Z.clone()
                raised.view(-1)[index] += raise_by
                assert chernoff_bound(raised, margin, compat=compat) >= before * (1 - rounding)


@pytest.mark.parametrize('compat', [None, 'official'])
def test_chunks_bound_the_memory_and_change_nothing(compat):
    """Every chunk size gives the same bound, but for the order of a sum."""
    Z, d = draws(images=5)
    whole = chernoff_bound(Z, d, compat=compat, chunk=10**9)
    for chunk in (121, 1000, 10_000):
        found = chernoff_bound(Z, d, compat=compat, chunk=chunk)
        torch.testing.assert_close(found, whole, rtol=1e-5 if compat else 1e-12, atol=0)


def test_edges():
    """No margin, nothing certified; no discrepancy, everything; the result stays in [0, 1]."""
    zero = torch.zeros(1, 2, 5, dtype=torch.float64)
    one = torch.tensor([0.5], dtype=torch.float64)
    assert chernoff_bound(zero, one) == 0
    assert chernoff_bound(zero, one * 0) == 1
    assert chernoff_bound(zero + 1, one) == 1


@pytest.mark.parametrize('compat', [None, 'official'])
def test_no_image_has_no_bound(compat):
    """In the dtype of all others."""
    Z, d = draws()
    found = chernoff_bound(Z[:0], d[:0], compat=compat)
    assert found.shape == (0,)
    assert found.dtype == chernoff_bound(Z, d, compat=compat).dtype


def test_temperatures_of_each_image():
    """Images may have grids of their own; shared ones are the same as repeated ones."""
    Z, d = draws()
    grid = geometric_temperatures()[100:300]
    shared = chernoff_bound(Z, d, temperatures=grid)
    assert torch.equal(chernoff_bound(Z, d, temperatures=grid[None].repeat(3, 1)), shared)
    assert torch.equal(chernoff_bound(Z, d, temperatures=grid[None]), shared)


def test_the_grids_have_the_range_and_the_size_of_the_published_one():
    """1e-4 to 1e4, 500 temperatures; equal steps there, equal ratios here."""
    ours, theirs = geometric_temperatures(), official_temperatures()
    assert len(ours) == len(theirs) == 500
    assert (ours[0].item(), ours[-1].item()) == pytest.approx((1e-4, 1e4))
    assert (theirs[0].item(), theirs[-1].item()) == pytest.approx((1e-4, 1e4))
    assert np.ptp(ours.log().diff().numpy()) < 1e-9
    assert np.ptp(theirs.diff().numpy()) < 2e-3


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(margins=torch.zeros(2)), 'do not fit'),
        (dict(discrepancies=torch.full((3, 4, 30), math.nan)), 'finite'),
        (dict(delta=0.0), 'delta'),
        (dict(compat='paper'), "'official'"),
        (dict(compat='official', temperatures=torch.ones(1)), 'its own temperatures'),
        (dict(temperatures=torch.zeros(1)), 'positive'),
        (dict(temperatures=torch.ones(2, 5)), 'positive numbers of shape'),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    """The error says what was expected."""
    Z, d = draws()
    arguments = dict(discrepancies=Z, margins=d) | change
    with pytest.raises(MmsharpError, match=message):
        chernoff_bound(**arguments)
