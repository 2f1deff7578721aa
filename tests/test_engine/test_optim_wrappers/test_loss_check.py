"""A loss that is not the one of the captured forward is refused, whose second pass would drop a part of it."""

import copy

import pytest
from small_network import Network, assert_same, batch, wrapped

from mmsharp.errors import MmsharpError
from mmsharp.sharpness import SAM


def test_a_train_step_that_adds_to_the_loss_is_refused():
    """The second pass would drop the penalty without a word."""

    class Penalised(Network):
        def train_step(self, data, optim_wrapper):
            with optim_wrapper.optim_context(self):
                losses = self(**data)
            loss, log = self.parse_losses(losses)
            optim_wrapper.update_params(loss + self.layers[0].weight.abs().sum())
            return log

    model = Penalised()
    before = copy.deepcopy(dict(model.named_parameters()))
    with pytest.raises(MmsharpError, match=r'Penalised\.train_step adds to the loss'):
        model.train_step(batch(), wrapped(model, SAM()))
    assert_same(before, dict(model.named_parameters()))


def test_two_contexts_before_one_update_are_refused():
    """The first batch would be dropped."""

    class Twice(Network):
        def train_step(self, data, optim_wrapper):
            losses = []
            for _ in range(2):
                with optim_wrapper.optim_context(self):
                    losses.append(self.parse_losses(self(**data))[0])
            optim_wrapper.update_params(sum(losses))

    model = Twice()
    with pytest.raises(MmsharpError, match='several contexts before one update'):
        model.train_step(batch(), wrapped(model, SAM()))
