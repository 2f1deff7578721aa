import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

from mmsharp.errors import MmsharpError
from mmsharp.pruning import ChannelMasks, Recipe, find_groups, tensor_forward

from ..conftest import random_masks

IMAGE = torch.zeros(2, 3, 8, 8)


@pytest.fixture
def masks(residual):
    return random_masks(find_groups(residual, tensor_forward(IMAGE)))


def expected_zeros(masks, model):
    """Longhand: ``(parameter or buffer name) -> bool tensor`` of the positions that have to be zero."""
    zeros = {name: torch.zeros_like(value, dtype=torch.bool) for name, value in model.state_dict().items()}
    for group, keep in zip(masks.groups.groups, masks.keep):
        for member in group.members:
            for position, channel in zip(member.positions.tolist(), member.channels.tolist()):
                if keep[channel]:
                    continue
                if member.axis == 'in':
                    zeros[f'{member.module}.weight'][:, position] = True
                    continue
                for name in ('weight', 'bias', 'running_mean'):
                    if f'{member.module}.{name}' in zeros:
                        zeros[f'{member.module}.{name}'][position] = True
    return zeros


def test_exactly_the_dead_positions_are_zeroed(residual, masks):
    """Filters, biases, normalisation and the weights that read them become zero; nothing else changes."""
    before = copy.deepcopy(residual.state_dict())
    identities = {name: id(parameter) for name, parameter in residual.named_parameters()}
    masks.apply_(residual)
    for name, zeros in expected_zeros(masks, residual).items():
        assert torch.equal(residual.state_dict()[name], before[name].masked_fill(zeros, 0)), name
    assert {name: id(parameter) for name, parameter in residual.named_parameters()} == identities


def test_not_a_number_dies_too(residual, masks):
    """A dead channel becomes zero whatever it held."""
    for parameter in residual.parameters():
        parameter.data.fill_(torch.nan)
    masks.apply_(residual)
    zeros = expected_zeros(masks, residual)
    assert all((parameter[zeros[name]] == 0).all() for name, parameter in residual.named_parameters())


def test_parameter_masks_are_the_zeros(residual, masks):
    """Each mask broadcasts to 0 at the dead positions of its parameter and to 1 elsewhere."""
    by_parameter = masks.parameter_masks(residual)
    for name, parameter in residual.named_parameters():
        dead = expected_zeros(masks, residual)[name]
        found = (
            by_parameter[parameter].expand_as(parameter) if parameter in by_parameter else torch.ones_like(parameter)
        )
        assert torch.equal(found, (~dead).to(parameter)), name


def test_channels_never_come_back(residual, masks):
    """An update can only remove."""
    before = masks.keep
    masks.update([torch.ones_like(mask) for mask in before])
    assert all(torch.equal(new, old) for new, old in zip(masks.keep, before))


def test_masks_survive_a_recipe(residual, masks):
    """Recipe and masks say the same, also through JSON types, and with everything kept."""
    recipe = Recipe.from_dict(masks.recipe(residual).to_dict())
    again = ChannelMasks.from_recipe(masks.groups, recipe)
    assert all(torch.equal(new, old) for new, old in zip(again.keep, masks.keep))
    dense = ChannelMasks(masks.groups)
    assert dense.recipe(residual).modules == {}
    assert all(mask.all() for mask in ChannelMasks.from_recipe(masks.groups, Recipe({})).keep)


def test_recipe_of_other_groups_is_refused(residual, masks):
    """A recipe that removes what these groups keep whole names the module."""
    groups = find_groups(residual, tensor_forward(IMAGE), ignore=['expand'])
    with pytest.raises(MmsharpError, match=r"recipe module 'expand\.0', axis 'out'"):
        ChannelMasks.from_recipe(groups, masks.recipe(residual))
    data = masks.recipe(residual).to_dict()
    data['modules']['expand.0']['out']['kept'] = [0]
    with pytest.raises(MmsharpError, match='recipe module'):
        ChannelMasks.from_recipe(masks.groups, Recipe.from_dict(data))


def test_wrong_masks_are_refused(masks):
    """Number, shape, type, and empty groups."""
    keep = masks.keep
    for wrong in ([], [mask[:-1] for mask in keep], [mask.float() for mask in keep], [mask & False for mask in keep]):
        with pytest.raises(MmsharpError, match=r'mask'):
            ChannelMasks(masks.groups, wrong)


def test_another_model_is_refused(masks):
    """Masks of one model do not touch another."""
    with pytest.raises(MmsharpError, match='no prunable layer'):
        masks.apply_(nn.Linear(2, 2))


def test_layers_that_were_exchanged_are_found(residual, masks):
    """What was learnt about layers that are gone, and about another model, is forgotten."""
    first, second = copy.deepcopy(residual), copy.deepcopy(residual)
    for model in (residual, first, residual, second):
        masks.apply_(model)
    path = next(member.module for group in masks.groups.groups for member in group.members if member.axis == 'out')
    parent, name = residual.get_submodule(path.rpartition('.')[0]), path.rpartition('.')[2]
    fresh = copy.deepcopy(parent.get_submodule(name))
    for parameter in fresh.parameters():
        parameter.data.fill_(1)
    setattr(parent, name, fresh)
    masks.apply_(residual)
    for name, zeros in expected_zeros(masks, residual).items():
        assert not residual.state_dict()[name][zeros].any(), name
    setattr(parent, path.rpartition('.')[2], nn.ReLU())
    with pytest.raises(MmsharpError, match='no prunable layer'):
        masks.apply_(residual)


@pytest.mark.filterwarnings('ignore::FutureWarning')
@pytest.mark.parametrize('applied', [False, True])
@pytest.mark.parametrize('norm', [parametrizations.weight_norm, weight_norm])
def test_a_layer_whose_weight_is_computed_by_now_is_refused(norm, applied):
    """Zeros would not hold in it; it is the same module, so that what was found before must not count."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    groups = find_groups(model, tensor_forward(torch.zeros(1, 3, 8, 8)))
    masks = ChannelMasks(groups, [torch.tensor([True, False, True, True])])
    if applied:
        masks.apply_(model)
    norm(model[0])
    with pytest.raises(MmsharpError, match="no prunable layer '0'"):
        masks.apply_(model)


def test_a_copy_of_masks_holds_the_same(residual, masks):
    """Masks that have been applied can be copied and pickled."""
    masks.apply_(residual)
    for copied in (copy.deepcopy(masks), pickle.loads(pickle.dumps(masks))):
        again = copy.deepcopy(residual)
        for parameter in again.parameters():
            parameter.data.fill_(1)
        copied.apply_(again)
        zeros = expected_zeros(masks, again)
        assert all(torch.equal(parameter == 0, zeros[name]) for name, parameter in again.named_parameters())
