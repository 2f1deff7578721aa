"""Laws of the limit: directions stay, lengths do not exceed the usual one, all others are left alone."""

import copy

import pytest
import torch
from torch import nn

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


OPTIMIZERS = {
    'adamw': lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05),
    'rmsprop': lambda parameters: torch.optim.RMSprop(parameters, lr=1e-3, momentum=0.9),
    'sgd': lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9),
}


def steps_taken(kind, limited, count=6, warm_up=60):
    """Per step the lengths of the filters' steps, and their values after the first; the first four filters grow."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 4, 3))
    optimizer, weight = OPTIMIZERS[kind](model.parameters()), model[0].weight
    groups = find_groups(model, tensor_forward(IMAGE)).groups

    def step():
        before, images = weight.detach().clone(), torch.randn(4, 3, 8, 8)
        optimizer.zero_grad()
        (model(images) - images.mean()).square().mean().backward()
        optimizer.step()
        return (weight.detach() - before).flatten(1).norm(dim=1)

    for _ in range(warm_up):
        step()
    keep = [torch.arange(16) >= 4]
    SoftPruning(model, groups, keep, optimizer).zero_()
    limit = LimitedRegrowth(model, groups, [~keep[0]], optimizer if limited else None)
    lengths = [step()]
    after = weight.detach().clone()
    lengths += [step() for _ in range(count - 1)]
    limit.close()
    return lengths, after


@pytest.mark.parametrize('kind', ['adamw', 'rmsprop'])
def test_steps_that_do_not_follow_the_gradients_length_are_shortened(kind):
    """To the mean of the others, at every step; the others step bitwise as they would without. Unlimited they run."""
    lengths, after = steps_taken(kind, True)
    for step in lengths:
        assert 0 < step[:4].max() <= step[4:].mean() * 1.001
    unlimited, free = steps_taken(kind, False)
    assert unlimited[0][:4].min() > 3 * unlimited[0][4:].mean()
    assert torch.equal(after[4:], free[4:])


def test_the_steps_of_sgd_are_those_of_its_gradients():
    """Bitwise: shortened gradients are enough."""
    lengths, after = steps_taken('sgd', True)
    others, free = steps_taken('sgd', False)
    assert torch.equal(after, free)
    assert all(torch.equal(one, other) for one, other in zip(lengths, others))


def test_after_closing_steps_are_the_optimizers_own():
    """No hook is left on the optimizer."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3))
    optimizer = OPTIMIZERS['adamw'](model.parameters())
    groups = find_groups(model, tensor_forward(IMAGE)).groups
    limit = LimitedRegrowth(model, groups, [torch.arange(6) < 2], optimizer)
    assert optimizer._optimizer_step_post_hooks
    limit.close()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
