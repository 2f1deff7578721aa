"""Laws of the limit: directions stay, lengths do not exceed the usual one, all others are left alone."""

import copy

import pytest
import torch

from mmsharp.pruning import LimitedRegrowth, SoftPruning, find_groups, tensor_forward
from mmsharp.pruning.protection.limited_regrowth import shortened

IMAGE = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8).sin()


@pytest.mark.parametrize('dim', [0, 1])
@pytest.mark.parametrize('factor', [1.0, 2.0**100])
def test_long_gradients_are_shortened_to_the_mean_of_the_others(dim, factor):
    """Whatever they are multiplied by; shorter ones stay."""
    gradient = torch.randn(6, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    gradient.select(dim, 1).mul_(500.0)
    gradient.select(dim, 4).mul_(0.01)
    ours = shortened(gradient * factor, dim, torch.tensor([1, 4])) / factor
    lengths = gradient.movedim(dim, 0).flatten(1).norm(dim=1)
    usual = lengths[[0, 2, 3, 5]].mean()
    torch.testing.assert_close(ours.select(dim, 1), gradient.select(dim, 1) * usual / lengths[1])
    others = torch.tensor([0, 2, 3, 4, 5])
    torch.testing.assert_close(ours.index_select(dim, others), gradient.index_select(dim, others), rtol=1e-6, atol=0)


@pytest.mark.parametrize('value', [float('inf'), float('nan')])
def test_an_overflow_of_a_growing_filter_is_no_step(value):
    """Zero instead, and the others untouched."""
    gradient = torch.ones(3, 4)
    gradient[1, 2] = value
    assert torch.equal(shortened(gradient, 0, torch.tensor([1])), torch.tensor([[1.0] * 4, [0.0] * 4, [1.0] * 4]))


def test_zero_gradients_and_none_others_are_no_trouble():
    """A silent filter stays silent; where all grow there is no usual length."""
    gradient = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert torch.equal(shortened(gradient, 0, torch.tensor([0])), gradient)
    assert torch.equal(shortened(gradient, 0, torch.tensor([0, 1])), gradient)


def test_only_growing_filters_are_touched_and_only_while_it_lasts(residual):
    """Over coupled and depthwise layers; ascents by ``torch.autograd.grad`` see the same."""
    groups = find_groups(residual, tensor_forward(IMAGE)).groups
    keep = [torch.arange(group.channels) % 3 > 0 for group in groups]
    soft = SoftPruning(residual, groups, keep)
    soft.zero_()
    plain = copy.deepcopy(residual)
    plain(IMAGE).square().mean().backward()
    limit = LimitedRegrowth(residual, groups, [~mask for mask in keep])
    loss = residual(IMAGE).square().mean()
    parameters = list(residual.parameters())
    ascent = torch.autograd.grad(loss, parameters, retain_graph=True)
    loss.backward()
    masks = soft.parameter_masks()
    for parameter, other, first in zip(parameters, plain.parameters(), ascent):
        mask = masks.get(parameter, torch.ones(()))
        assert torch.equal(parameter.grad * mask, other.grad * mask)
        assert torch.equal(parameter.grad, first)
    before = plain.stem[0].weight.grad.flatten(1).norm(dim=1)
    after = residual.stem[0].weight.grad.flatten(1).norm(dim=1)
    growing = torch.arange(16) % 3 == 0
    assert before[growing].max() > 10 * before[~growing].mean()
    assert after[growing].max() <= before[~growing].mean() * 1.001
    limit.close()
    residual.zero_grad()
    residual(IMAGE).square().mean().backward()
    assert all(torch.equal(one.grad, other.grad) for one, other in zip(parameters, plain.parameters()))
