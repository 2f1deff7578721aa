"""Laws of the parameter filters."""

import pytest
import torch
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.sharpness import select_parameters, validate_filter


def network() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2), nn.GroupNorm(1, 4))
    model[2].bias.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ('which', 'expected'),
    [
        ('all', ['0.weight', '0.bias', '1.weight', '1.bias', '2.weight', '3.weight', '3.bias']),
        ('weights', ['0.weight', '2.weight']),
        ('norm_only', ['1.weight', '1.bias', '3.weight', '3.bias']),
        (['0.*', '2.weight'], ['0.weight', '0.bias', '2.weight']),
    ],
)
def test_filters_select_by_name(which, expected):
    """Each filter selects what it says, frozen parameters never."""
    assert [parameter.name for parameter in select_parameters(network(), which)] == expected


def test_shared_parameters_are_listed_once():
    """A parameter tied into two modules is one parameter, perturbed once."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    assert [parameter.name for parameter in select_parameters(model)] == ['0.weight']


@pytest.mark.parametrize('which', ['everything', [], [1], None, 3])
def test_unknown_filters_are_refused(which):
    """What is no filter is refused with the accepted ones, before any model exists."""
    with pytest.raises(MmsharpError, match='norm_only'):
        validate_filter(which)


def test_a_pattern_that_matches_nothing_is_refused():
    """A typo in a pattern is an error and never silent plain training."""
    with pytest.raises(MmsharpError, match='backbone'):
        select_parameters(network(), ['0.*', 'backbone.*'])


def test_a_filter_that_selects_nothing_is_refused():
    """No normalisation layers, no `norm_only`."""
    with pytest.raises(MmsharpError, match='norm_only'):
        select_parameters(nn.Linear(2, 2), 'norm_only')


def test_a_pattern_may_name_either_module_of_a_shared_parameter():
    """The second name is no typo."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    assert [parameter.name for parameter in select_parameters(model, ['0.weight', '1.weight'])] == ['0.weight']


def test_norm_only_knows_normalisations_by_name():
    """The toolboxes write their own; a block that contains one is none."""

    class GRN(nn.Module):
        def __init__(self):
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(2))

    class L2Norm(GRN):
        pass

    class NormedBlock(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.RMSNorm(2)
            self.scale = nn.Parameter(torch.ones(2))

    model = nn.ModuleDict(dict(grn=GRN(), l2=L2Norm(), block=NormedBlock(), linear=nn.Linear(2, 2)))
    assert [p.name for p in select_parameters(model, 'norm_only')] == ['grn.gamma', 'l2.gamma', 'block.inner.weight']


def test_empty_parameters_take_no_part():
    """They have no direction."""
    model = nn.Linear(2, 2)
    model.empty = nn.Parameter(torch.zeros(0, 3))
    assert [parameter.name for parameter in select_parameters(model, 'weights')] == ['weight']
