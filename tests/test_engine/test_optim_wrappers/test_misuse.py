"""Loops that would train plainly, or wrongly, without a word: each is an error when it first happens."""

import copy

import pytest
import torch
from mmengine.model import BaseModel
from small_network import ALL_ASCENTS, Network, batch, train, wrapped
from torch import nn

from mmsharp.engine.optim_wrappers import SAMOptimWrapper
from mmsharp.errors import MmsharpError
from mmsharp.sharpness import SAM


@pytest.mark.parametrize('ascent', ALL_ASCENTS)
def test_an_update_inside_the_context_is_refused(ascent):
    """Weights may stand elsewhere there, and processes exchange nothing; the next step is as if it had not been."""

    class Inside(Network):
        inside = True

        def train_step(self, data, optim_wrapper):
            with optim_wrapper.optim_context(self):
                losses = self.parse_losses(self(**data))[0]
                if self.inside:
                    optim_wrapper.update_params(losses)
            optim_wrapper.update_params(losses)

    model, twin = Inside(dropout=0.0), Network(dropout=0.0)
    wrapper = wrapped(model, dict(type=ascent))
    for _ in range(2):
        with pytest.raises(MmsharpError, match='updated inside optim_context'):
            model.train_step(batch(), wrapper)
    for (name, value), other in zip(model.named_parameters(), twin.parameters()):
        assert torch.equal(value, other), name
    model.inside = False
    model.train_step(batch(), wrapper)
    train(twin, wrapped(twin, dict(type=ascent)), steps=1)
    for (name, value), other in zip(model.named_parameters(), twin.parameters()):
        assert torch.equal(value, other), name


@pytest.mark.parametrize('inside', [False, True])
def test_a_step_after_somebody_elses_backward_pass_is_refused(inside):
    """``loss.backward(); step()`` would be plain training, with the context and without it."""
    model = Network()
    wrapper = wrapped(model, SAM())
    if inside:
        with wrapper.optim_context(model):
            loss = model(**batch())['loss']
    else:
        loss = model(**batch())['loss']
    loss.backward()
    with pytest.raises(MmsharpError, match=r'step\(\) without its backward'):
        wrapper.step()
    model.zero_grad()
    model.train_step(batch(), wrapper)
    with pytest.raises(MmsharpError, match=r'step\(\) without its backward'):
        wrapper.step()  # a second time


@pytest.mark.parametrize('added', [lambda step, loss: loss + 0.1 * step, lambda step, loss: loss * (1 + (step > 1))])
def test_what_is_added_to_the_loss_later_is_noticed_when_it_appears(added):
    """A weight that ramps up from zero, a factor from the third step on; the weights stay as they were."""

    class Ramp(Network):
        steps = 0

        def train_step(self, data, optim_wrapper):
            with optim_wrapper.optim_context(self):
                loss = self.parse_losses(self(**data))[0]
            optim_wrapper.update_params(added(self.steps, loss))

    model = Ramp()
    wrapper = wrapped(model, SAM())
    quiet = 1 if added(1, 1.0) != 1.0 else 2
    for model.steps in range(quiet):
        model.train_step(batch(model.steps), wrapper)
    before = copy.deepcopy(dict(model.named_parameters()))
    model.steps = quiet
    with pytest.raises(MmsharpError, match='adds to the loss'):
        model.train_step(batch(quiet), wrapper)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize('ascent', ALL_ASCENTS)
def test_parameters_of_no_optimizer_stay_where_they_are(ascent):
    """Another optimizer's, or nobody's: neither moved for the second pass nor part of the norm."""
    seen = []

    class Watching(Network):
        def forward(self, *args, **kwargs):
            seen.append(self.layers[5].weight.detach().clone())
            return super().forward(*args, **kwargs)

    def partly(model):
        optimizer = torch.optim.SGD(model.layers[0].parameters(), lr=0.1, momentum=0.9)
        return SAMOptimWrapper(optimizer, ascent=dict(type=ascent))

    model, twin = Watching(dropout=0.0), Network(dropout=0.0)
    twin.layers[5].requires_grad_(False)
    twin.layers[1].requires_grad_(False)
    wrappers = partly(model), partly(twin)
    for step in range(3):
        model.train_step(batch(step), wrappers[0])
        twin.train_step(batch(step), wrappers[1])
    assert len(seen) >= 3
    assert all(torch.equal(value, seen[0]) for value in seen)
    for name in ('layers.0.weight', 'layers.0.bias'):
        assert torch.equal(model.get_parameter(name), twin.get_parameter(name)), name


def test_an_optimizer_of_other_parameters_is_refused():
    """There is nothing to move."""
    model = Network()
    wrapper = SAMOptimWrapper(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1), ascent=SAM())
    with pytest.raises(MmsharpError, match='not in this optimizer'):
        model.train_step(batch(), wrapper)


def test_an_autocast_around_the_whole_step_does_not_hide_the_perturbation():
    """Its cache of casts would give the second pass the weights of the first."""
    moved = []
    for rho in (0.0, 1.0):
        torch.manual_seed(0)
        model = Network(dropout=0.0)
        with torch.autocast('cpu', torch.bfloat16):
            model.train_step(batch(), wrapped(model, SAM(rho=rho)))
        moved.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert (moved[0] - moved[1]).norm() > 0.05


class Scores(BaseModel):
    """Gives scores, not losses."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.layer(inputs)


def test_a_forward_without_losses_is_named():
    """A loss made outside of the model cannot be made again."""
    model = Scores()
    wrapper = wrapped(model, SAM())
    with wrapper.optim_context(model):
        scores = model(torch.ones(1, 2))
    with pytest.raises(MmsharpError, match=r"Scores.forward returned a Tensor .* mode='loss'"):
        wrapper.update_params(scores.sum())


def test_a_context_of_a_part_of_the_model_is_named():
    """It has no loss of its own."""
    model = Network()
    with (
        pytest.raises(MmsharpError, match='give it the whole model'),
        wrapped(model, SAM()).optim_context(model.layers),
    ):
        pass


def test_a_layer_that_is_frozen_by_the_forward_is_left_alone():
    """Plain training copes, and so does the ascent."""

    class Freezes(Network):
        def forward(self, *args, **kwargs):
            self.layers[0].requires_grad_(False)
            return super().forward(*args, **kwargs)

    model = Freezes()
    before = model.layers[0].weight.detach().clone()
    model.train_step(batch(), wrapped(model, SAM()))
    assert torch.equal(model.layers[0].weight, before)
