"""Which parameters move, while what trains changes."""

import copy

import pytest
import torch
from mmengine.model import BaseModel
from small_network import Network, batch, wrapped
from torch import nn

from mmsharp.engine.optim_wrappers import SAMOptimWrapper
from mmsharp.errors import MmsharpError
from mmsharp.sharpness import SAM


def test_unknown_filters_are_refused_at_construction():
    """Before any data is read."""
    with pytest.raises(MmsharpError, match='norm_only'):
        wrapped(Network(), SAM(), parameters='everything')


def test_parameters_on_which_no_loss_depends_are_refused():
    """By the name of the first, with what to change."""
    model = Network()
    with pytest.raises(MmsharpError, match=r'none of the 2 parameters.*unused\.weight.*choose other `parameters`'):
        model.train_step(batch(), wrapped(model, SAM(), parameters=['unused.*']))


def test_parameters_that_are_frozen_later_are_followed():
    """A stage frozen during training is left alone; with nothing left to move, it is an error and not plain SGD."""
    model = Network(dropout=0.0)
    wrapper = wrapped(model, SAM(), parameters=['layers.0.*', 'layers.5.*'])
    model.train_step(batch(0), wrapper)
    model.layers[0].requires_grad_(False)
    model.train_step(batch(1), wrapper)
    model.layers[5].requires_grad_(False)
    with pytest.raises(MmsharpError, match='frozen'):
        model.train_step(batch(2), wrapper)


def test_parameters_that_are_unfrozen_later_are_followed():
    """A stage that thaws during training is moved from then on."""
    model = Network(dropout=0.0)
    model.layers[0].requires_grad_(False)
    moved: list[set[str]] = []

    class Watched(SAM):
        def direct_(self, parameters, gradients, keep):
            moved.append({parameter.name for parameter in parameters})
            return super().direct_(parameters, gradients, keep)

    wrapper = wrapped(model, Watched())
    model.train_step(batch(0), wrapper)
    model.layers[0].requires_grad_(True)
    model.train_step(batch(1), wrapper)
    assert moved[1] - moved[0] == {'layers.0.weight', 'layers.0.bias'}


def test_frozen_and_shared_parameters_longhand():
    """A frozen layer stays where it is and out of the norm; a weight that two layers share moves once."""

    class Tied(BaseModel):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.frozen = nn.Linear(32, 4).requires_grad_(False)
            self.first, self.second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
            self.second.weight = self.first.weight

        def forward(self, inputs, data_samples=None, mode='loss'):
            return dict(loss=self.second(torch.tanh(self.first(self.frozen(inputs.flatten(1))))).square().mean())

    model, twin = Tied(), Tied()
    start = copy.deepcopy(model.state_dict())
    wrapper = SAMOptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), ascent=SAM(rho=0.5))
    for step in range(3):
        model.train_step(batch(step), wrapper)
        weight = twin.first.weight
        before = weight.detach().clone()
        (direction,) = torch.autograd.grad(twin(**batch(step))['loss'], [weight])
        weight.data += 0.5 * direction / direction.norm()
        (gradient,) = torch.autograd.grad(twin(**batch(step))['loss'], [weight])
        weight.data = before - 0.1 * gradient
    torch.testing.assert_close(model.first.weight, twin.first.weight, rtol=1e-5, atol=1e-6)
    assert model.second.weight is model.first.weight
    assert torch.equal(model.frozen.weight, start['frozen.weight'])
