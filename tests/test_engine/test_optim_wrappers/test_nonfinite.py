"""Losses and gradients that are not finite, in full precision."""

import copy

import pytest
import torch
from small_network import ALL_ASCENTS, Network, assert_same, batch, momenta_of, wrapped

from mmsharp.registry import ASCENTS
from mmsharp.sharpness import ASAM, SAM, AdaSAP


@pytest.mark.parametrize('ascent', [SAM(), ASAM(), AdaSAP()], ids=lambda part: type(part).__name__)
def test_steps_that_are_not_finite_are_left_out_on_request(ascent):
    """skip_nonfinite: weights and momentum stay, and the next step is an ordinary one."""
    model = Network(dropout=0.0)
    wrapper = wrapped(model, ascent, skip_nonfinite=True)
    model.train_step(batch(0), wrapper)
    before = copy.deepcopy((dict(model.named_parameters()), momenta_of(wrapper, model)))
    model.train_step(dict(inputs=batch(1)['inputs'] * torch.inf), wrapper)
    assert_same(dict(model.named_parameters()), before[0])
    assert all(torch.equal(ours, old) for ours, old in zip(momenta_of(wrapper, model), before[1]))
    model.train_step(batch(2), wrapper)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert not torch.equal(model.layers[0].weight, before[0]['layers.0.weight'])


def test_the_log_says_which_steps_were_left_out():
    """sharpness/skipped is 1 in such a step and 0 in the next; without skip_nonfinite there is no such reading."""
    model = Network(dropout=0.0)
    wrapper = wrapped(model, SAM(), skip_nonfinite=True)
    wrapper.message_hub.log_scalars.pop('train/sharpness/skipped', None)
    read = []
    for factor in (1, torch.inf, 1):
        model.train_step(dict(inputs=batch(0)['inputs'] * factor), wrapper)
        read.append(wrapper.message_hub.get_scalar('train/sharpness/skipped').current())
    assert read == [0, 1, 0]
    wrapper.message_hub.log_scalars.pop('train/sharpness/skipped')
    model.train_step(batch(0), wrapped(model, SAM()))
    assert 'train/sharpness/skipped' not in wrapper.message_hub.log_scalars


@pytest.mark.parametrize('name', ALL_ASCENTS)
def test_without_a_finite_gradient_the_second_pass_runs_at_the_weights(name):
    """An infinite gradient gives no direction: no module ever sees NaN weights, and the step is the parent's."""
    model = Network()
    twin = copy.deepcopy(model)
    seen: list[torch.Tensor] = []
    for network in (model, twin):
        network.layers[5].weight.register_hook(lambda gradient: gradient * torch.inf)
    model.layers[5].register_forward_pre_hook(lambda *_: seen.append(model.layers[5].weight.detach().clone()))
    for network, wrapper in ((model, wrapped(model, dict(type=name))), (twin, wrapped(twin))):
        torch.manual_seed(7)
        network.train_step(batch(), wrapper)
    assert len(seen) == (2 if ASCENTS.get(name).direction == 'gradient' else 1)
    assert torch.equal(seen[0], seen[-1])
    for ours, theirs in zip(model.parameters(), twin.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)
