"""A loss that is not the one of the captured forward is refused, whose second pass would drop a part of it."""

import copy

import pytest
import torch
from mmengine.logging import MessageHub
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


@pytest.mark.parametrize(('begun', 'total', 'factor'), [(0, 3, 3), (4, 5, 1), (4, 6, 2), (0, 8, 4)])
def test_the_loss_is_known_where_the_last_step_has_fewer_micro_batches(begun, total, factor):
    """The parent divides those by their number; also where a run is resumed there, the loss is that of the forward."""
    model = Network(dropout=0.0)
    twin = copy.deepcopy(model)
    wrapper = wrapped(model, SAM(rho=0.1), accumulative_counts=4)
    wrapper.initialize_count_status(model, begun, total)
    losses = [model.train_step(batch(step), wrapper)['loss'] for step in range(begun, total)]
    assert len(losses) in (factor, 2 * factor)
    gap = MessageHub.get_current_instance().get_scalar('train/sharpness/loss_gap').data[0][-len(losses)]
    first = twin(**batch(begun))['loss']
    gradients = torch.autograd.grad(first, list(twin.layers.parameters()))
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    for parameter, gradient in zip(twin.layers.parameters(), gradients):
        parameter.data.add_(0.1 * gradient / norm)
    assert gap == pytest.approx((twin(**batch(begun))['loss'] - first).item(), rel=1e-4)
