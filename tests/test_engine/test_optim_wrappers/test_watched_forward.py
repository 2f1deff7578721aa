"""The model's state around both passes, and what is refused of the forward pass."""

import copy

import pytest
import torch
from mmengine.model import BaseModel, ExponentialMovingAverage
from small_network import ALL_ASCENTS, BrokenLayerError, Network, assert_same, batch, breaking, train, wrapped
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.sharpness import SAM


def test_a_loss_without_a_captured_forward_is_refused():
    """A custom loop that never enters optim_context gets an error and not plain SGD."""
    model = Network()
    wrapper = wrapped(model, SAM())
    with pytest.raises(MmsharpError, match='optim_context'):
        wrapper.update_params(model(**batch())['loss'])


def test_two_forwards_in_one_context_are_refused():
    """At the second, since which of them to repeat cannot be known; statistics are as before the first."""
    model = Network()
    wrapper = wrapped(model, SAM())
    before = copy.deepcopy(model.state_dict())
    made = []

    def forward_twice():
        with wrapper.optim_context(model):
            for seed in range(2):
                made.append(model(**batch(seed)))

    with pytest.raises(MmsharpError, match='2 forward passes'):
        forward_twice()
    assert len(made) == 1
    assert_same(model.state_dict(), before)


def test_no_hook_stays_on_the_model():
    """The forward pre-hook lives inside the context alone, also after an exception."""
    model = Network()
    wrapper = wrapped(model, SAM())
    with pytest.raises(RuntimeError, match='inside'), wrapper.optim_context(model):
        raise RuntimeError('inside')
    assert not model._forward_pre_hooks


@pytest.mark.parametrize('passes', ['forward', 'backward'])
@pytest.mark.parametrize('at', [1, 2, 3, 4])
@pytest.mark.parametrize('ascent', ALL_ASCENTS)
def test_an_exception_in_any_pass_leaves_weights_and_state_bitwise(ascent, at, passes):
    """First or second, forward or backward; buffers are those of before the step."""
    model = Network(dropout=0.0)
    wrapper = wrapped(model, dict(type=ascent))
    model.train_step(batch(9), wrapper)  # from here on there is a momentum
    layer = model.layers[5] if passes == 'forward' else model.layers[2]
    register = layer.register_forward_hook if passes == 'forward' else layer.register_full_backward_hook
    handle = register(breaking([0], at))
    before: dict[str, torch.Tensor] = {}

    def train_until_it_breaks():
        for step in range(5):
            before.update(copy.deepcopy(model.state_dict()))
            model.train_step(batch(step), wrapper)

    with pytest.raises(BrokenLayerError):
        train_until_it_breaks()
    handle.remove()
    assert_same(model.state_dict(), before)
    assert model.layers[1].track_running_stats
    train(model, wrapper, steps=1)


def test_batch_norm_statistics_are_those_of_the_clean_pass():
    """Running mean, variance and counter after one step equal those of one plain forward pass."""
    model = Network(dropout=0.0)
    twin = copy.deepcopy(model)
    model.train_step(batch(), wrapped(model, SAM(rho=5.0)))
    twin(**batch())
    assert_same(dict(twin.layers[1].named_buffers()), dict(model.layers[1].named_buffers()))


def test_buffers_that_a_graph_has_saved_are_left_alone():
    """A buffer used as an index or a weight, written by this very forward or not: both backward passes find it."""

    class Buffers(Network):
        def __init__(self):
            super().__init__(dropout=0.0)
            self.register_buffer('order', torch.tensor([2, 0, 1]))
            self.register_buffer('project', torch.linspace(0, 1, 3))
            self.register_buffer('calls', torch.zeros(1))

        def forward(self, inputs, data_samples=None, mode='loss'):
            self.calls += 1
            outputs = self.layers(inputs)[:, self.order] * self.project * self.calls
            return dict(loss=nn.functional.linear(outputs, self.project[None]).square().mean())

    model = Buffers()
    model.train_step(batch(), wrapped(model, SAM(rho=0.1)))
    assert model.calls.item() == 1.0


class Remembering(BaseModel):
    """A loss that depends on what was seen: buffers, a number, a list, a queue, a momentum encoder with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Sequential(nn.Linear(8, 2), nn.BatchNorm1d(2))
        self.target = ExponentialMovingAverage(self.layer, momentum=0.5)
        self.target.requires_grad_(False)
        self.register_buffer('written', torch.zeros(()))
        self.register_buffer('exchanged', torch.zeros(()))
        self.norm = OwnStatistics(2)
        self.number = 0
        self.history: list[float] = []
        self.queue = torch.zeros(4)

    def forward(self, inputs, data_samples=None, mode='loss'):
        self.queue[1:] = self.queue[:-1].clone()
        self.queue[0] = inputs.mean()
        self.written += 1
        self.exchanged = self.exchanged + 1
        self.number += 1
        self.history.append(float(self.number))
        self.target.update_parameters(self.layer)
        inputs = inputs.flatten(1)[:, :8]
        with torch.no_grad():
            wanted = self.target(inputs)
        factor = self.written + 0.1 * self.exchanged + 0.01 * self.number + 0.001 * len(self.history) + self.queue.sum()
        return dict(loss=factor * (self.norm(self.layer(inputs)) - wanted).square().mean())


class OwnStatistics(nn.BatchNorm1d):
    """Calls PyTorch's function itself, with the running statistics, whatever ``track_running_stats`` says."""

    def forward(self, inputs):
        return nn.functional.batch_norm(inputs, self.running_mean, self.running_var, self.weight, self.bias, True)


def state_of(model: Remembering) -> dict:
    return dict(
        model.state_dict(), queue=model.queue, number=torch.tensor(model.number), history=torch.tensor(model.history)
    )


def test_a_loss_that_remembers_is_evaluated_as_if_it_were_once():
    """The second pass begins where the first began, so that rho = 0 is the base wrapper; and it leaves nothing."""
    plain = Remembering()
    twin = copy.deepcopy(plain)
    for model, ascent in ((plain, None), (twin, SAM(rho=0.0))):
        train(model, wrapped(model, ascent))
    assert_same(state_of(twin), state_of(plain))
    still = Remembering()
    still_plain = copy.deepcopy(still)
    train(still, wrapped(still, SAM(rho=5.0), lr=0.0))
    train(still_plain, wrapped(still_plain, lr=0.0))
    assert_same(state_of(still), state_of(still_plain))


def test_an_exception_leaves_what_a_loss_remembers():
    """Also the objects: whoever holds a buffer or the list still holds the model's."""
    model = Remembering()
    wrapper = wrapped(model, SAM())
    model.train_step(batch(0), wrapper)
    before = copy.deepcopy(state_of(model))
    held = (model.written, model.history)
    handle = model.norm.register_forward_hook(breaking([0], 2))
    with pytest.raises(BrokenLayerError):
        model.train_step(batch(1), wrapper)
    handle.remove()
    assert_same(state_of(model), before)
    assert held[0] is model.written
    assert held[1] is model.history
