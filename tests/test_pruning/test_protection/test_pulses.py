"""Laws of pulses: they are the raw gradients of the zeroed filters, and nothing else ever sees them."""

import copy

import pytest
import torch
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import PulseWatch, SoftPruning, find_groups, tensor_forward

IMAGE = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8).sin()
FORWARD = tensor_forward(IMAGE)


@pytest.fixture
def soft(residual):
    """Every second channel zeroed."""
    groups = find_groups(residual, FORWARD).groups
    soft = SoftPruning(residual, groups, [torch.arange(group.channels) % 2 == 0 for group in groups])
    soft.zero_()
    return soft


def loss_of(model, shift=0.0):
    return (model(IMAGE + shift) - 1).square().mean()


def expected(model, soft, *losses):
    """Longhand: gradients of a copy without any hook, squared and summed over the layers of a channel."""
    squares = [torch.zeros(group.channels, dtype=torch.float64) for group in soft.groups]
    model.zero_grad()
    for loss in losses:
        loss.backward()
    for number, part, positions, channels in SoftPruning(model, soft.groups, soft.keep).zeroed():
        for position, channel in zip(positions.tolist(), channels.tolist()):
            squares[number][channel] += float(part.tensor.grad.select(part.dim, position).double().square().sum())
    return [total.sqrt().float() for total in squares]


def test_pulses_are_the_gradient_norms_of_the_zeroed_filters(residual, soft):
    """Over all layers of a coupled channel; in ``.grad`` there are zeros, and all else is untouched."""
    plain = copy.deepcopy(residual)
    want = expected(plain, soft, loss_of(plain))
    watch = PulseWatch(soft)
    loss_of(residual).backward()
    watch.take_step(watch.gradients())
    watch.close()
    for pulse, other, mask in zip(watch.pulses(), want, soft.keep):
        torch.testing.assert_close(pulse, other, rtol=1e-5, atol=0)
        assert not pulse[mask].any()
    assert sum(float(pulse.sum()) for pulse in watch.pulses()) > 0
    masks = soft.parameter_masks()
    for parameter, other in zip(residual.parameters(), plain.parameters()):
        assert torch.equal(parameter.grad, other.grad * masks.get(parameter, torch.ones(())))


def test_a_filter_zeroed_before_batch_norm_answers_with_a_pulse():
    """About ``1 / sqrt(eps)`` times the gradient that it had before: what the method is named after."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3))
    groups = find_groups(model, FORWARD).groups
    loss_of(model).backward()
    before = float(model[0].weight.grad[3].norm())
    model.zero_grad()
    soft = SoftPruning(model, groups, [torch.arange(8) != 3])
    soft.zero_()
    watch = PulseWatch(soft)
    loss_of(model).backward()
    watch.take_step(watch.gradients())
    assert watch.pulses()[0][3] > 50 * before


def test_micro_batches_add_up_and_steps_add_their_squares(residual, soft):
    """As the optimizer would have had it: one gradient per step."""
    plain = copy.deepcopy(residual)
    watch = PulseWatch(soft)
    wanted = [torch.zeros(group.channels) for group in soft.groups]
    for shifts in ((0.0, 0.1), (0.2, 0.3)):
        for shift in shifts:
            loss_of(residual, shift).backward()
        step = expected(plain, soft, *(loss_of(plain, shift) for shift in shifts))
        wanted = [(total.square() + pulse.square()).sqrt() for total, pulse in zip(wanted, step)]
        watch.take_step(watch.gradients(), factor=1.0)
    for pulse, other in zip(watch.pulses(), wanted):
        torch.testing.assert_close(pulse, other, rtol=1e-4, atol=1e-7)


def test_an_ascent_pass_is_not_read_and_does_not_see_the_pulse(residual, soft):
    """Gradients by ``torch.autograd.grad`` are no part of the pulse, and zero at the zeroed filters."""
    watch = PulseWatch(soft)
    masks = soft.parameter_masks()
    weight = residual.stem[0].weight
    (gradient,) = torch.autograd.grad(loss_of(residual), [weight])
    assert torch.equal(gradient, gradient * masks[weight])
    watch.take_step(watch.gradients())
    assert not any(pulse.any() for pulse in watch.pulses())


def test_the_loss_scale_is_divided_out(residual, soft):
    """The scale that a step was made with is the factor of its gradients."""
    watch, plain = PulseWatch(soft), copy.deepcopy(residual)
    want = expected(plain, soft, loss_of(plain))
    (loss_of(residual) * 1024).backward()
    watch.take_step(watch.gradients(), factor=1 / 1024)
    for pulse, other in zip(watch.pulses(), want):
        torch.testing.assert_close(pulse, other, rtol=1e-5, atol=1e-9)


def test_closed_hooks_do_nothing(residual, soft):
    """Afterwards gradients are plain again."""
    PulseWatch(soft).close()
    plain = copy.deepcopy(residual)
    for model in (residual, plain):
        loss_of(model).backward()
    assert all(torch.equal(one.grad, other.grad) for one, other in zip(residual.parameters(), plain.parameters()))


def test_frozen_filters_have_no_pulse(residual, soft):
    """They are left out instead of raising."""
    residual.stem[0].weight.requires_grad_(False)
    watch = PulseWatch(soft)
    loss_of(residual).backward()
    watch.take_step(watch.gradients())
    assert residual.stem[0].weight.grad is None
    assert any(pulse.any() for pulse in watch.pulses())


def test_reading_goes_on_from_a_file(residual, soft, tmp_path):
    """Between two micro-batches of the second step."""
    whole = PulseWatch(soft)
    loss_of(residual).backward()
    whole.take_step(whole.gradients())
    loss_of(residual, 0.1).backward()
    torch.save(whole.state_dict(), tmp_path / 'state.pt')
    loss_of(residual, 0.2).backward()
    whole.close()
    resumed = PulseWatch(soft)
    resumed.load_state_dict(torch.load(tmp_path / 'state.pt', weights_only=True))
    loss_of(residual, 0.2).backward()
    for watch in (whole, resumed):
        watch.take_step(watch.gradients())
    assert all(torch.equal(one, other) for one, other in zip(whole.pulses(), resumed.pulses()))
    assert any(pulse.any() for pulse in resumed.pulses())
    with pytest.raises(MmsharpError, match='other filters'):
        PulseWatch(soft).load_state_dict(dict(squares=[torch.zeros(3)], sums={}))
