"""Every registered perturbation moves variables within its radius, and not at all with none."""

import inspect

import pytest
import torch

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search import GradientPerturbation, UniformPerturbation
from mmsharp.registry import MASK_PERTURBATIONS, build_part

ALL = sorted(MASK_PERTURBATIONS.module_dict)
WITH_RHO = [name for name in ALL if 'rho' in inspect.signature(MASK_PERTURBATIONS.get(name)).parameters]
VARIABLES = {'a': torch.rand(4, 3), 'b': torch.rand(2)}
GRADIENTS = {'a': torch.randn(4, 3), 'b': torch.randn(2)}


@pytest.mark.parametrize('name', ALL)
def test_shapes_are_those_of_the_variables(name):
    """And nothing given is changed."""
    before = {key: value.clone() for key, value in VARIABLES.items()}
    moved = build_part(MASK_PERTURBATIONS, dict(type=name))(VARIABLES, GRADIENTS)
    assert {key: value.shape for key, value in moved.items()} == {key: v.shape for key, v in VARIABLES.items()}
    assert not any(value.requires_grad for value in moved.values())
    assert all(torch.equal(VARIABLES[key], before[key]) for key in before)


@pytest.mark.parametrize('name', WITH_RHO)
def test_a_radius_of_zero_moves_nothing(name):
    """Exactly."""
    moved = build_part(MASK_PERTURBATIONS, dict(type=name, rho=0.0))(VARIABLES, GRADIENTS)
    assert not any(value.any() for value in moved.values())


@pytest.mark.parametrize('name', WITH_RHO)
@pytest.mark.parametrize('rho', [-0.1, float('nan'), float('inf'), True, '0.1'])
def test_other_radii_are_refused(name, rho):
    """At construction, with the value."""
    with pytest.raises(MmsharpError, match='rho is'):
        build_part(MASK_PERTURBATIONS, dict(type=name, rho=rho))


def test_uniform_noise_fills_its_box():
    """Mean 0, variance rho^2 / 3."""
    torch.manual_seed(0)
    noise = UniformPerturbation(0.2)({'a': torch.zeros(20000)})['a']
    assert noise.abs().max() <= 0.2
    assert noise.mean().item() == pytest.approx(0, abs=0.005)
    assert noise.var().item() == pytest.approx(0.04 / 3, rel=0.05)


def test_the_ascent_is_that_of_sam_over_all_masks():
    """`rho g / ||g||` with one norm, longhand; a gradient that is not finite moves nothing."""
    moved = GradientPerturbation(0.5)(VARIABLES, GRADIENTS)
    norm = (GRADIENTS['a'].square().sum() + GRADIENTS['b'].square().sum()).sqrt()
    for key, value in moved.items():
        torch.testing.assert_close(value, 0.5 * GRADIENTS[key] / norm)
    broken = GradientPerturbation(0.5)(VARIABLES, {**GRADIENTS, 'b': torch.tensor([float('inf'), 1.0])})
    assert not any(value.any() for value in broken.values())
    with pytest.raises(MmsharpError, match='without gradients'):
        GradientPerturbation(0.5)(VARIABLES)
