"""Binary masks are exact in number, whatever ties."""

import pytest
import torch

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search import hard_mask, kept_count, straight_through


@pytest.mark.parametrize('size', [2, 7, 288, 4096])
@pytest.mark.parametrize('ratio', [0.0, 0.3, 0.5, 0.7])
@pytest.mark.parametrize('values', ['random', 'tied', 'zero'])
def test_the_ratio_is_met_exactly(size, ratio, values):
    """`round(ratio * size)` zeros, also where all entries are alike."""
    torch.manual_seed(0)
    made = dict(random=torch.rand(size), tied=torch.rand(size).round(), zero=torch.zeros(size))
    mask = hard_mask(made[values].reshape(-1, 1), kept_count(size, ratio))
    assert int((mask == 0).sum()) == round(ratio * size)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}


def test_the_largest_stay_and_magnitudes_settle_ties():
    """As a stable sort by mask and then by magnitude would choose."""
    torch.manual_seed(0)
    rank, magnitude = torch.randint(4, (50,)).float(), torch.rand(50)
    order = sorted(range(50), key=lambda i: (rank[i].item(), magnitude[i].item()), reverse=True)
    mask = hard_mask(rank, 20, magnitude)
    assert mask.nonzero()[:, 0].tolist() == sorted(order[:20])


def test_the_gradient_passes_straight_through():
    """The value of the mask, the gradient of the identity."""
    variable = torch.rand(5, requires_grad=True)
    mask = straight_through(hard_mask(variable, 2), variable)
    (mask * torch.arange(5.0)).sum().backward()
    assert mask.sum() == 2
    assert variable.grad.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize('ratio', [-0.1, 1.0, True, 'half', float('nan')])
def test_other_ratios_are_refused(ratio):
    """By name and value."""
    with pytest.raises(MmsharpError, match='ratio is'):
        kept_count(10, ratio)


def test_a_layer_is_not_emptied():
    """A tiny layer with a high ratio."""
    with pytest.raises(MmsharpError, match=r"leaves none of 1 entries of 'head\.weight'"):
        kept_count(1, 0.9, 'head.weight')


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_what_is_not_finite_has_no_largest(value):
    """Rather than a mask with fewer ones."""
    with pytest.raises(MmsharpError, match='1 of 3 mask entries are not finite'):
        hard_mask(torch.tensor([0.5, value, 0.25]), 2)


def test_the_count_is_exact_in_half_precision():
    """A sum of a thousand bfloat16 ones is not a thousand."""
    rank = (torch.arange(2000) % 7).to(torch.bfloat16)
    assert int(hard_mask(rank, 1003).count_nonzero()) == 1003
