"""What masks act on: every weight, or what reads a channel."""

import pytest
import torch
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import ChannelMasks, CostModel, count_parameters, find_groups, tensor_forward
from mmsharp.pruning.mask_search import ChannelUnits, WeightUnits, reestimate_statistics


class Residual(nn.Module):
    """A stem, a depthwise and a pointwise convolution beside a shortcut, and a head."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Sigmoid())
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.inner = nn.Sequential(nn.Conv2d(8, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 1))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = self.stem(x)
        return self.head((x + self.inner(self.depthwise(x))).mean(dim=(2, 3)))


@pytest.fixture
def found():
    model = Residual().eval()
    forward = tensor_forward(torch.randn(2, 3, 6, 6))
    return model, forward, find_groups(model, forward)


@torch.no_grad()
def run(model, units, masks, forward):
    masked = units.masked(model, masks)
    return torch.func.functional_call(model, masked, (forward.inputs,))


def test_masks_of_ones_change_nothing(found):
    """Bitwise, of weights and of channels."""
    model, forward, groups = found
    for units in (WeightUnits(model, 0.5), ChannelUnits(groups, model, 0.5)):
        ones = {name: torch.ones(shape) for name, shape in units.shapes.items()}
        assert torch.equal(run(model, units, ones, forward), forward(model))


def test_a_gate_of_zero_is_a_channel_that_has_gone(found):
    """The gated network, the masked one and, by the law of masks, the slim one give the same."""
    model, forward, groups = found
    units = ChannelUnits(groups, model, 0.5)
    masks = {name: (torch.arange(shape[0]) % 2).float() for name, shape in units.shapes.items()}
    gated = run(model, units, masks, forward)
    ChannelMasks(groups, units.keep(masks)).apply_(model)
    torch.testing.assert_close(gated, forward(model), rtol=0, atol=1e-5)


def test_a_gate_scales_what_is_read(found):
    """Half open, the readers see half of the channel: a chain of two layers, longhand."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    forward = tensor_forward(torch.randn(5, 3))
    units = ChannelUnits(find_groups(model, forward), model, 0.5)
    gate = torch.tensor([1.0, 0.5, 0.0, 0.25])
    expected = model[2](gate * model[1](model[0](forward.inputs)))
    torch.testing.assert_close(run(model, units, {'0': gate}, forward), expected)


def test_grouped_readers_are_gated_where_channels_are_made():
    """A convolution in groups has no weight per channel that it reads; a closed gate still equals the mask."""
    model = nn.Sequential(nn.Conv2d(3, 32, 1), nn.Conv2d(32, 32, 1, groups=8), nn.ReLU(), nn.Conv2d(32, 2, 1)).eval()
    forward = tensor_forward(torch.randn(1, 3, 4, 4))
    groups = find_groups(model, forward)
    units = ChannelUnits(groups, model, 0.5)
    masks = {name: (torch.arange(shape[0]) % 2).float() for name, shape in units.shapes.items()}
    gated = run(model, units, masks, forward)
    ChannelMasks(groups, units.keep(masks)).apply_(model)
    torch.testing.assert_close(gated, forward(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize(('resource', 'target'), [('params', 0.5), ('macs', 0.4), ('channels', 0.6)])
def test_a_budget_is_met_by_the_same_share_of_each_group(found, resource, target):
    """Not above it, and not a channel of each group too few."""
    model, forward, groups = found
    units = ChannelUnits(groups, model, budget=(resource, target), forward=forward)
    keep = [torch.arange(group.channels) < units.kept[group.name] for group in groups.groups]
    cost = CostModel(model, forward, groups)
    assert cost.fraction(resource, keep) <= target
    more = [torch.arange(group.channels) < units.kept[group.name] + 1 for group in groups.groups]
    assert cost.fraction(resource, more) > target
    assert count_parameters(model) > 0


def test_layers_can_be_left_out(found):
    """By pattern, and a pattern of nothing is refused."""
    model, _, _ = found
    assert 'head.weight' in WeightUnits(model, 0.5).shapes
    assert 'head.weight' not in WeightUnits(model, 0.5, ['head']).shapes
    with pytest.raises(MmsharpError, match="'neck'"):
        WeightUnits(model, 0.5, ['neck'])
    with pytest.raises(MmsharpError, match='no convolution'):
        WeightUnits(nn.BatchNorm1d(2), 0.5)


def test_frozen_layers_stay_whole(found):
    """Of weights each layer, of channels what only frozen layers make; both by name, with the reason."""
    model, forward, _ = found
    model.inner[0].requires_grad_(False)
    units = WeightUnits(model, 0.5)
    assert 'inner.0.weight' not in units.shapes
    assert units.whole == {'inner.0.weight': 'its weights are frozen'}
    groups = find_groups(model, forward)
    assert not ChannelUnits(groups, model, 0.5).whole  # its normalisation learns
    model.inner[1].requires_grad_(False)
    for settings in (dict(ratio=0.5), dict(budget=('params', 0.7), forward=forward)):
        units = ChannelUnits(groups, model, **settings)
        assert [*units.whole] == ['inner.0']
        assert set(units.shapes) == set(units.kept) == set(units.values(model)) == {'stem.0'}
        keep = units.keep({'stem.0': (torch.arange(8) < units.kept['stem.0']).float()})
        kept = {group.name: int(mask.sum()) for group, mask in zip(groups.groups, keep)}
        assert kept == {'stem.0': units.kept['stem.0'], 'inner.0': 6}
    assert CostModel(model, forward, groups).fraction('params', keep) <= 0.7
    model.requires_grad_(False)
    with pytest.raises(MmsharpError, match='frozen_stages=-1'):
        ChannelUnits(groups, model, 0.5)
    with pytest.raises(MmsharpError, match='its weights are frozen'):
        WeightUnits(model, 0.5)


def test_one_weight_of_two_layers_has_one_mask():
    """Under the first name, and it acts in both."""
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 4, bias=False))
    model[2].weight = model[0].weight
    units = WeightUnits(model, 0.5)
    assert [*units.shapes] == ['0.weight']
    mask = (torch.arange(16).reshape(4, 4) % 2).float()
    inputs = torch.randn(3, 4)
    weight = model[0].weight * mask
    expected = (inputs @ weight.T).tanh() @ weight.T
    torch.testing.assert_close(run(model, units, {'0.weight': mask}, tensor_forward(inputs)), expected)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2)
        self.normed = torch.nn.utils.parametrizations.weight_norm(nn.Linear(8, 4))
        self.head = nn.Linear(4, 2)


def test_what_has_no_mask_is_named():
    """Matrices that are no weight of a layer, and weights that are computed."""
    units = WeightUnits(Attention(), 0.5)
    assert [*units.shapes] == ['attention.out_proj.weight', 'head.weight']
    original = 'normed.parametrizations.weight.original'
    assert [*units.whole] == ['attention.in_proj_weight', f'{original}0', f'{original}1']
    assert 'parametrization' in units.whole[f'{original}1']


@pytest.mark.parametrize(
    ('layer', 'inputs'),
    [
        (nn.Conv2d(8, 4, 3), 72),
        (nn.Conv2d(8, 4, 3, groups=4), 18),
        (nn.ConvTranspose2d(8, 4, 3), 72),
        (nn.ConvTranspose2d(8, 4, (3, 1), groups=2), 12),
        (nn.Linear(8, 4), 8),
    ],
    ids=str,
)
def test_inputs_of_one_output_are_counted(layer, inputs):
    """Input channels per group times the size of the kernel, transposed or not."""
    assert WeightUnits(layer, 0.5).fan_in('weight') == inputs


def test_statistics_are_those_of_the_batches():
    """The average of the batches' means and unbiased variances; frozen layers and modes stay."""
    norm, frozen = nn.BatchNorm1d(3), nn.BatchNorm1d(3).eval()
    model = nn.Sequential(norm, nn.Dropout(0.5), frozen)
    model.train()
    frozen.eval()
    batches = [torch.randn(10, 3) for _ in range(4)]
    reestimate_statistics(model, [lambda m, x=x: m(x) for x in batches])
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean(0) for x in batches]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.var(0) for x in batches]).mean(0))
    assert frozen.running_mean.eq(0).all()
    assert [module.training for module in model] == [True, True, False]
    assert norm.momentum == 0.1
