"""Laws of the guards: the model comes back, whatever happens inside."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from mmsharp.sharpness import RandomState, WeightGuard, frozen_statistics


def test_weights_come_back_bitwise():
    """w + eps - eps is not w in floating point; the copy is."""
    weight = torch.tensor([1e-8, 1.0, 1e8])
    guard = WeightGuard()
    with guard.perturbed([weight], [torch.tensor([1.0, 1e-8, 3.0])]):
        assert weight[0] == 1.0
    assert torch.equal(weight, torch.tensor([1e-8, 1.0, 1e8]))


def test_weights_come_back_after_an_exception():
    """Also when the second pass raises."""
    weight = torch.tensor([1.0])
    with pytest.raises(RuntimeError, match='inside'), WeightGuard().perturbed([weight], [torch.ones(1)]):
        raise RuntimeError('inside')
    assert weight.item() == 1.0


def test_buffers_are_kept_between_steps_and_follow_a_changed_shape():
    """The copy is allocated once; a slimmed tensor gets a new one."""
    guard, weight = WeightGuard(), torch.ones(4)
    with guard.perturbed([weight], [torch.ones(4)]):
        first = guard._buffers[0].data_ptr()
    with guard.perturbed([weight], [torch.ones(4)]):
        assert guard._buffers[0].data_ptr() == first
    smaller = torch.full((2,), 3.0)
    with guard.perturbed([smaller], [torch.ones(2)]):
        assert smaller.tolist() == [4.0, 4.0]
    assert smaller.tolist() == [3.0, 3.0]


class CountsCalls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('calls', torch.zeros((), dtype=torch.long))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x


def test_frozen_statistics_change_no_buffer_and_no_output():
    """Same outputs as in training mode, every buffer bitwise as before, tracking on again afterwards."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1),
        nn.BatchNorm2d(2),
        nn.BatchNorm2d(2, momentum=None),
        CountsCalls(),
        nn.InstanceNorm2d(2, track_running_stats=True),
    )
    twin = copy.deepcopy(model)
    inputs = torch.randn(4, 1, 3, 3)
    before = copy.deepcopy(model.state_dict())
    with frozen_statistics(model):
        outputs = model(inputs)
    assert torch.equal(outputs, twin(inputs))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model(inputs)
    assert all(torch.equal(value, twin.state_dict()[key]) for key, value in model.state_dict().items())


def test_frozen_statistics_leave_evaluated_layers_alone():
    """`norm_eval` layers keep normalising with their running statistics."""
    model = nn.BatchNorm1d(2).eval()
    model.running_mean.fill_(5.0)
    with frozen_statistics(model):
        inside = model(torch.zeros(3, 2))
    assert torch.equal(inside, model(torch.zeros(3, 2)))


def test_frozen_statistics_end_after_an_exception():
    """Tracking is on again also when the forward raises."""
    model = nn.BatchNorm1d(2)
    with pytest.raises(RuntimeError, match='inside'), frozen_statistics(model):
        raise RuntimeError('inside')
    model(torch.randn(3, 2))
    assert model.num_batches_tracked == 1


def test_random_state_replays_every_generator_and_then_goes_on():
    """Python, NumPy and torch draw the same inside, and afterwards what they would have drawn anyway."""

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), torch.rand(1).item()

    state = RandomState.capture()
    first = draw()
    expected_next = RandomState.capture()
    with state.replayed():
        assert draw() == first
        draw()
    following = draw()
    expected_next.restore()
    assert draw() == following


def test_a_graph_that_saved_a_buffer_survives_the_guard():
    """Backward works after the guard has closed: a buffer that the forward only reads is not written."""
    model = nn.Linear(2, 2)
    model.register_buffer('scale', torch.tensor([2.0, 3.0]))
    with frozen_statistics(model):
        loss = (model(torch.ones(1, 2)) * model.scale).sum()
    loss.backward()
    assert model.bias.grad.tolist() == [2.0, 3.0]
