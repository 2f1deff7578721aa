"""Masked filters of standardised convolutions have no gradient, and everything else has its own."""

import copy

import pytest
import torch
from mmcv.cnn import ConvAWS2d, ConvWS2d
from torch import nn

from mmsharp.pruning import ChannelPruner, DeadGradients, tensor_forward


def _network(convolution):
    torch.manual_seed(0)
    return nn.Sequential(
        convolution(3, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        convolution(8, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 4, 1),
    )


def _masked(convolution):
    network = _network(convolution)
    pruner = ChannelPruner(dict(channels=0.5), round_to=1)
    pruner.attach(network, tensor_forward(torch.randn(1, 3, 8, 8)))
    pruner.update(1.0)
    assert any(isinstance(module, convolution) for module, _ in _dead_filters(network, pruner))
    return network, pruner


def _dead_filters(network, pruner):
    masks = pruner.parameter_masks()
    for module in network.modules():
        if getattr(module, 'weight', None) in masks and module.weight.dim() == 4:
            yield module, masks[module.weight]


def _gradients(network):
    network(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))).square().sum().backward()
    found = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    return found


def test_without_it_a_masked_filter_has_no_number_for_a_gradient():
    """The reason that it exists: 0 / 0."""
    network, _ = _masked(ConvWS2d)
    assert any(gradient.isnan().any() for gradient in _gradients(network))


@pytest.mark.parametrize('convolution', [ConvWS2d, ConvAWS2d])
def test_dead_positions_are_zero_and_the_others_are_untouched(convolution):
    """Bitwise, where the gradient without it was a number."""
    network, pruner = _masked(convolution)
    plain = _gradients(network)
    held = DeadGradients()
    held.hold(network, pruner.parameter_masks())
    for found, before, parameter in zip(_gradients(network), plain, network.parameters(), strict=True):
        assert found.isfinite().all()
        mask = pruner.parameter_masks().get(parameter)
        alive = torch.ones_like(found, dtype=torch.bool) if mask is None else mask.expand_as(found) == 1
        assert torch.equal(found[alive], before[alive])
    held.release()
    assert torch.equal(
        torch.cat([g.flatten() for g in _gradients(network)]).isnan(), torch.cat([g.flatten() for g in plain]).isnan()
    )


def test_the_gradient_of_a_first_pass_is_held_too():
    """torch.autograd.grad, which sharpness-aware training takes its direction from."""
    network, pruner = _masked(ConvWS2d)
    held = DeadGradients()
    held.hold(network, pruner.parameter_masks())
    loss = network(torch.randn(1, 3, 8, 8)).square().sum()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, list(network.parameters())))


def test_new_masks_take_the_place_of_the_old():
    """One hook per parameter, however often; torch's own layers have none."""
    network, pruner = _masked(ConvWS2d)
    held = DeadGradients()
    for _ in range(3):
        held.hold(network, pruner.parameter_masks())
    assert len(held._handles) == sum(isinstance(module, ConvWS2d) for module, _ in _dead_filters(network, pruner))
    held.hold(copy.deepcopy(network), {})
    assert held._handles == []
