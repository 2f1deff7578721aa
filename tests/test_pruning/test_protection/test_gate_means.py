"""Laws of gate means: steps whose gradients are not finite are none, and a file goes on."""

import pytest
import torch

from mmsharp.pruning import GateMeans, find_groups, gate_gradients, tensor_forward

IMAGE = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8).sin()


@pytest.fixture
def step(residual):
    """A function that takes the gradients of one step in, and the groups."""
    groups = find_groups(residual, tensor_forward(IMAGE)).groups

    def taken(means, shift, factor=1.0):
        residual.zero_grad()
        (residual(IMAGE + shift).square().mean() * factor).backward()
        means.observe(residual, groups)
        return [gate_gradients(residual, group) for group in groups]

    return taken


@pytest.mark.parametrize('value', [float('inf'), float('nan')])
def test_steps_that_overflow_are_left_out(step, value):
    """Of all groups, at any place; without a finite step there is no mean."""
    means = GateMeans()
    step(means, 0.0, value)
    assert means.means() is None
    first = step(means, 0.0)
    step(means, 0.1, value)
    second = step(means, 0.2)
    for mean, one, other in zip(means.means(), first, second):
        torch.testing.assert_close(mean, (one + other) / 2)


def test_one_group_that_overflows_takes_the_step_from_all(residual):
    """A step is taken or not."""
    groups, means = find_groups(residual, tensor_forward(IMAGE)).groups, GateMeans()
    residual(IMAGE).square().mean().backward()
    means.observe(residual, groups)
    before = means.means()
    residual.head[4].weight.grad.fill_(torch.inf)
    finite = [bool(gate_gradients(residual, group).isfinite().all()) for group in groups]
    assert sorted(finite) == [False, True, True]
    means.observe(residual, groups)
    assert all(torch.equal(mean, old) for mean, old in zip(means.means(), before))


def test_means_go_on_from_a_file(step, tmp_path):
    """Between two steps; begun anew they forget."""
    whole, resumed = GateMeans(), GateMeans()
    step(whole, 0.0)
    torch.save(whole.state_dict(), tmp_path / 'state.pt')
    resumed.load_state_dict(torch.load(tmp_path / 'state.pt', weights_only=True))
    for means in (whole, resumed):
        step(means, 0.3)
    assert all(torch.equal(one, other) for one, other in zip(whole.means(), resumed.means()))
    whole.reset()
    assert whole.means() is None
