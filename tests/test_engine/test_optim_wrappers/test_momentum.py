"""Ascents along the optimizer's momentum, in one pass."""

import copy

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from small_network import (
    BrokenLayerError,
    Network,
    assert_close,
    assert_same,
    batch,
    gradient_at,
    train,
    train_longhand,
    train_ours,
    wrapped,
)

from mmsharp.engine.optim_wrappers import SAMOptimWrapper
from mmsharp.errors import MmsharpError
from mmsharp.sharpness import SAM, MomentumSAM


def test_momentum_sam_longhand():
    """eps = -rho v / ||v||; the first step is plain."""

    def gradient(model, step, plain, momenta):
        return gradient_at(model, [-part for part in momenta], 0.3, step)

    assert_close(train_ours(ascent=MomentumSAM(SAM(rho=0.3))), train_longhand(gradient))


def test_momentum_sam_follows_adam_too():
    """exp_avg is the momentum of Adam and its kin: the first step is plain, the second is not."""
    ends = []
    for ascent in (None, MomentumSAM()):
        model = Network(dropout=0.0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        wrapper = OptimWrapper(optimizer) if ascent is None else SAMOptimWrapper(optimizer, ascent=ascent)
        model.train_step(batch(0), wrapper)
        first = model.layers[0].weight.detach().clone()
        model.train_step(batch(1), wrapper)
        ends.append((first, model.layers[0].weight.detach().clone()))
    assert torch.equal(ends[0][0], ends[1][0])
    assert not torch.equal(ends[0][1], ends[1][1])


def test_weights_are_displaced_in_the_passes_only():
    """Along the momentum forward and backward run at w + eps; between and after them the weights are w."""
    model = Network(dropout=0.0)
    wrapper = wrapped(model, MomentumSAM())
    model.train_step(batch(0), wrapper)
    before = copy.deepcopy(dict(model.named_parameters()))
    with wrapper.optim_context(model):
        loss = model(**batch(1))['loss']
        assert not torch.equal(model.layers[0].weight, before['layers.0.weight'])
    assert_same(before, dict(model.named_parameters()))  # parse_losses may raise here, and the step be abandoned
    wrapper.backward(loss)
    assert_same(before, dict(model.named_parameters()))
    with pytest.raises(BrokenLayerError), wrapper.optim_context(model):
        raise BrokenLayerError
    assert_same(before, dict(model.named_parameters()))


def test_one_pass_ascents_log_no_loss_gap():
    """There is no loss at w; the norm is the momentum's."""
    hub = MessageHub.get_current_instance()
    for name in list(hub.log_scalars):
        hub.log_scalars.pop(name)
    model = Network()
    train(model, wrapped(model, MomentumSAM()), steps=3)
    assert set(hub.log_scalars) == {'train/sharpness/momentum_norm', 'train/sharpness/radius'}
    assert len(hub.get_scalar('train/sharpness/radius').data[0]) == 2


@pytest.mark.parametrize(('name', 'steps'), [('SGD', 0), ('Adagrad', 0), ('Adadelta', 1)])
def test_an_optimizer_without_momentum_is_refused(name, steps):
    """At once where its settings or its state say so, else after its first step; never silent plain training."""
    model = Network()
    wrapper = SAMOptimWrapper(getattr(torch.optim, name)(model.parameters(), lr=0.1), ascent=MomentumSAM())
    for step in range(steps):
        model.train_step(batch(step), wrapper)
    with pytest.raises(MmsharpError, match=f'{name} keeps none'):
        model.train_step(batch(), wrapper)


def test_a_criterion_scores_under_the_momentum_too():
    """The ascent inside is connected like one of its own."""
    model = Network()
    ascent = dict(type='MomentumSAM', ascent=dict(type='AdaSAP', score=dict(type='Magnitude')))
    train(model, wrapped(model, ascent), steps=3)
