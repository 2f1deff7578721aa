"""The two numbers that CC-Cert compares."""

import torch

from mmsharp.robustness.certification import discrepancy, margin


def test_no_change_below_the_margin_changes_the_prediction():
    """Z < d keeps the predicted class, whatever the probabilities."""
    generator = torch.Generator().manual_seed(0)
    before = torch.rand(4000, 5, generator=generator, dtype=torch.float64).pow(4).softmax(dim=1)
    after = (before + 0.1 * torch.randn(4000, 5, generator=generator, dtype=torch.float64)).abs()
    after = after / after.sum(dim=1, keepdim=True)
    small = discrepancy(before, after) < margin(before)
    assert 100 < small.sum() < 3900
    assert (before.argmax(dim=1) == after.argmax(dim=1))[small].all()


def test_ties_have_no_margin():
    """Two classes that are equally likely leave nothing to certify."""
    assert margin(torch.tensor([0.4, 0.4, 0.2])) == 0
