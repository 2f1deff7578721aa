"""Every registered parameterisation starts from the weights and leads to an exact mask."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning.mask_search import Score, SearchedMasks, Soft, WeightUnits, hard_mask, percentile
from mmsharp.registry import MASK_PARAMETERISATIONS, build_part

ALL = sorted(MASK_PARAMETERISATIONS.module_dict)


@pytest.mark.parametrize('name', ALL)
def test_the_first_mask_is_that_of_the_largest_weights(name):
    """Before any training the binary mask is magnitude pruning, and the variable has a gradient."""
    part = build_part(MASK_PARAMETERISATIONS, dict(type=name))
    weights = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    variable = part.initial(weights, fan_in=5).requires_grad_()
    assert torch.equal(hard_mask(part.rank(variable), 20), hard_mask(weights.abs(), 20))
    part.mask(variable, 20).sum().backward()
    assert variable.grad.abs().min() > 0


@pytest.mark.parametrize('name', ALL)
def test_a_finished_mask_is_binary_and_exact(name):
    """Whatever the variables have become."""
    model = nn.Sequential(nn.Linear(9, 7), nn.Linear(7, 3))
    masks = SearchedMasks(WeightUnits(model, 0.3), build_part(MASK_PARAMETERISATIONS, dict(type=name)))
    masks.begin_(model)
    for variable in masks.variables.values():
        variable.data.add_(torch.randn_like(variable))
    masks.finish_(model)
    for layer in model:
        assert int((layer.weight == 0).sum()) == round(0.3 * layer.weight.numel())


@pytest.mark.parametrize('name', ALL)
def test_a_diverged_search_is_not_finished(name):
    """By the name of the layer, and nothing has changed; half of the network would be zeros, or all of it."""
    model = nn.Sequential(nn.Linear(9, 7), nn.Linear(7, 3))
    masks = SearchedMasks(WeightUnits(model, 0.3), build_part(MASK_PARAMETERISATIONS, dict(type=name)))
    masks.begin_(model)
    masks.by_name()['1.weight'].data[0, 0] = float('nan')
    before = {key: value.clone() for key, value in (*model.state_dict().items(), *masks.state_dict().items())}
    with pytest.raises(MmsharpError, match=r"'1\.weight': 1 of 21 mask entries are not finite.*diverged"):
        masks.finish_(model)
    for key, value in (*model.state_dict().items(), *masks.state_dict().items()):
        assert value.equal(before[key]) or value.isnan().any()
    assert not masks.finished


def test_another_number_of_ones_is_not_taken_over():
    """A search that ended at 0.3 is no result of settings that say 0.5."""
    model = nn.Linear(10, 10)
    ended = SearchedMasks(WeightUnits(model, 0.3), Soft())
    ended.begin_(model)
    ended.finish_(model)
    other = SearchedMasks(WeightUnits(model, 0.5), Soft())
    other.load_state_dict(ended.state_dict())
    with pytest.raises(MmsharpError, match=r"70 of 100 entries kept in 'weight', and the settings of now keep 50"):
        other.begin_(model)


@pytest.mark.parametrize('percent', [0.0, 12.5, 50.0, 90.0, 100.0])
@pytest.mark.parametrize('size', [1, 2, 101])
def test_percentiles_are_numpy_s(percent, size):
    """Linear between neighbours."""
    values = torch.rand(size, generator=torch.Generator().manual_seed(1))
    assert percentile(values, percent).item() == pytest.approx(np.percentile(values.numpy(), percent), abs=1e-6)


def test_soft_masks_begin_as_the_formula_says():
    """`clip(|w| / Q(|w|, tau), 0, 1)`, longhand."""
    weights = torch.randn(1000, generator=torch.Generator().manual_seed(2))
    expected = np.clip(np.abs(weights.numpy()) / np.percentile(np.abs(weights.numpy()), 90), 0, 1)
    np.testing.assert_allclose(Soft(90).initial(weights, 1).numpy(), expected, rtol=1e-5)


def test_scores_begin_as_hydra_s():
    """`sqrt(6 / fan_in) w / max|w|`, longhand."""
    weights = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    expected = math.sqrt(6 / 6) * weights / weights.abs().max()
    torch.testing.assert_close(Score().initial(weights, 6), expected)


def test_a_soft_mask_is_clipped_and_goes_on_learning():
    """Values in [0, 1], gradients also outside."""
    variable = torch.tensor([-0.5, 0.5, 1.5], requires_grad=True)
    mask = Soft().mask(variable, 1)
    mask.sum().backward()
    assert mask.tolist() == [0.0, 0.5, 1.0]
    assert variable.grad.tolist() == [1.0, 1.0, 1.0]


def test_a_cut_among_the_ones_is_refused():
    """tau of 70 with 70 % removed: all weights around the cut would begin tied."""
    units = WeightUnits(nn.Linear(10, 10), 0.7)
    with pytest.raises(MmsharpError, match=r"percentile=70 .*'weight'.*above 70"):
        SearchedMasks(units, Soft(70))
    SearchedMasks(units, Soft(71))


@pytest.mark.parametrize('value', [0, 101, -1, True, '90', float('nan')])
def test_other_percentiles_are_refused(value):
    """At construction."""
    with pytest.raises(MmsharpError, match='percentile is'):
        Soft(value)
