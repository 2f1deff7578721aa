"""When, and for which parameters, the ascent is taken: each policy against longhand."""

import copy

import pytest
import torch
from small_network import Network, assert_close, assert_same, gradient_at, train, train_longhand, train_ours, wrapped

from mmsharp.sharpness import ASAM, SAM, AdaSAP, LookSAM, Periodic, Policy, RandomLayers, select_parameters


def test_periodic_longhand():
    """SAM in steps 0, 2, 4; plain steps between."""

    def gradient(model, step, plain, momenta):
        return plain if step % 2 else gradient_at(model, plain, 0.1, step)

    assert_close(train_ours(ascent=SAM(rho=0.1), policy=Periodic(interval=2)), train_longhand(gradient))


def test_look_sam_longhand():
    """g_v = g_s - <g_s, g> / ||g||^2 g in steps 0 and 3; between, g + alpha ||g|| / ||g_v|| g_v."""
    kept: list[torch.Tensor] = []

    def gradient(model, step, plain, momenta):
        g = torch.cat([part.flatten() for part in plain])
        if step % 3 == 0:
            second = gradient_at(model, plain, 0.1, step)
            g_s = torch.cat([part.flatten() for part in second])
            kept[:] = [g_s - (g_s @ g) / (g @ g) * g]
            return second
        mixed = g + 0.5 * g.norm() / kept[0].norm() * kept[0]
        return [part.view_as(p) for part, p in zip(mixed.split([p.numel() for p in plain]), plain)]

    assert_close(train_ours(ascent=SAM(rho=0.1), policy=LookSAM(interval=3, alpha=0.5)), train_longhand(gradient))


def test_random_layers_longhand():
    """Only the drawn layers move, and the norm runs over them alone."""
    policy = RandomLayers(fraction=0.4, seed=1)
    sizes = set()

    def gradient(model, step, plain, momenta):
        parameters = select_parameters(model, ['layers.*'])
        chosen = {parameter.name for parameter in policy.select(step, parameters)}
        sizes.add(len(chosen))
        direction = [g if p.name in chosen else torch.zeros_like(g) for p, g in zip(parameters, plain)]
        return gradient_at(model, direction, 0.1, step)

    ours = train_ours(ascent=SAM(rho=0.1), policy=policy, parameters=['layers.*'])
    assert_close(ours, train_longhand(gradient))
    assert sizes == {4}  # two of the three layers, weight and bias each


class OnlyUnused(Policy):
    """Chooses layers on which no loss depends."""

    def select(self, step, parameters):
        return [parameter for parameter in parameters if parameter.name.startswith('unused')]


@pytest.mark.parametrize('ascent', [SAM(), ASAM(), AdaSAP()], ids=lambda part: type(part).__name__)
def test_a_policy_that_chooses_unused_layers_has_a_plain_step(ascent):
    """What it does not choose is used: nothing is wrong, and the step is the parent's, bit for bit."""
    plain = Network()
    twin = copy.deepcopy(plain)
    assert_same(train(plain, wrapped(plain)), train(twin, wrapped(twin, ascent, policy=OnlyUnused())))
