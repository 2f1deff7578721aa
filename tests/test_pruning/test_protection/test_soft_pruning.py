"""Laws of soft pruning: what is zeroed, and that what comes back is bitwise what it was."""

import copy

import pytest
import torch
from mmdet.models.necks import FPN
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import PulseWatch, SoftPruning, find_groups, tensor_forward
from mmsharp.pruning.protection import filter_parts

IMAGE = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
FORWARD = tensor_forward(IMAGE)
OPTIMIZERS = [
    pytest.param(lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9), id='sgd'),
    pytest.param(lambda parameters: torch.optim.Adam(parameters, lr=0.1, amsgrad=True), id='adam'),
]


def trained(model, make_optimizer):
    """The model and its optimizer after two steps."""
    optimizer = make_optimizer(model.parameters())
    for shift in range(2):
        optimizer.zero_grad()
        model(IMAGE + shift).square().mean().backward()
        optimizer.step()
    return optimizer


def every_third_kept(groups):
    return [torch.arange(group.channels) % 3 == 0 for group in groups]


def everything(model, optimizer):
    values = copy.deepcopy(model.state_dict())
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                values[f'{name}/{key}'] = value.clone()
    return values


@pytest.mark.parametrize('make_optimizer', OPTIMIZERS)
def test_zeroing_and_restoring_is_the_identity(residual, make_optimizer):
    """Weights, biases, statistics and momentum, bitwise, over coupled and depthwise layers."""
    optimizer = trained(residual, make_optimizer)
    groups = find_groups(residual, FORWARD).groups
    before = everything(residual, optimizer)
    keep = every_third_kept(groups)
    soft = SoftPruning(residual, groups, keep, optimizer)
    soft.zero_()
    assert any(not torch.equal(value, before[name]) for name, value in everything(residual, optimizer).items())
    residual(IMAGE)  # other statistics
    soft.restore_([~mask for mask in keep])
    now = everything(residual, optimizer)
    counters = {name for name in now if name.endswith('num_batches_tracked')}
    statistics = {name for name in now if 'running' in name}
    for name in now.keys() - counters - statistics:
        assert torch.equal(now[name], before[name]), name
    for group, mask in zip(groups, keep):
        for part in filter_parts(residual, group):
            gone = part.positions[~mask[part.channels]]
            ours, theirs = (part.tensor.index_select(part.dim, gone), before[part.name].index_select(part.dim, gone))
            assert torch.equal(ours, theirs), part.name


@pytest.mark.parametrize('make_optimizer', OPTIMIZERS)
def test_every_filter_of_a_coupled_channel_goes_with_its_momentum(residual, make_optimizer):
    """All layers that make the channel; layers that read it, scales and shifts are left alone."""
    optimizer = trained(residual, make_optimizer)
    groups = find_groups(residual, FORWARD).groups
    group = next(group for group in groups if group.name == 'stem.0')
    before = everything(residual, optimizer)
    keep = [torch.ones(other.channels, dtype=torch.bool) for other in groups]
    keep[groups.index(group)][5] = False
    SoftPruning(residual, groups, keep, optimizer).zero_()
    now = everything(residual, optimizer)
    changed = {name for name in now if not torch.equal(now[name], before[name])}
    assert {name.split('/')[0] for name in changed} == {'stem.0.weight', 'project.0.weight'}
    for name in changed:
        assert not now[name][5].any()
        assert torch.equal(torch.cat([now[name][:5], now[name][6:]]), torch.cat([before[name][:5], before[name][6:]]))
    assert len(changed) > 2


def test_only_the_protected_come_back(residual):
    """Kept channels are as they are now, and the others stay zero."""
    groups = find_groups(residual, FORWARD).groups
    keep = every_third_kept(groups)
    before = copy.deepcopy(residual.state_dict())
    soft = SoftPruning(residual, groups, keep)
    soft.zero_()
    residual.stem[0].weight.data[0] = 7.0
    protected = [torch.arange(group.channels) == 1 for group in groups]
    soft.restore_(protected)
    weight = residual.stem[0].weight
    assert (weight[0] == 7.0).all()
    assert torch.equal(weight[1], before['stem.0.weight'][1])
    assert not weight[2].any()


def test_a_copy_resumes_from_plain_tensors(residual, tmp_path):
    """The state goes through a file; another process restores the same."""
    optimizer = trained(residual, OPTIMIZERS[0].values[0])
    groups = find_groups(residual, FORWARD).groups
    keep = every_third_kept(groups)
    soft = SoftPruning(residual, groups, keep, optimizer)
    soft.zero_()
    torch.save(soft.state_dict(), tmp_path / 'state.pt')
    other = copy.deepcopy(residual)
    twin = SoftPruning(other, groups, keep)
    twin.load_state_dict(torch.load(tmp_path / 'state.pt', weights_only=True))
    for pruning in (soft, twin):
        pruning.restore_([~mask for mask in keep])
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in residual.state_dict().items())
    with pytest.raises(MmsharpError, match='other channels'):
        SoftPruning(other, groups, [~mask for mask in keep]).load_state_dict(soft.state_dict())


def test_masks_cover_what_is_zeroed(residual):
    """0 exactly at the filters that are gone, for whatever moves weights in the meantime."""
    groups = find_groups(residual, FORWARD).groups
    soft = SoftPruning(residual, groups, every_third_kept(groups))
    soft.zero_()
    masks = soft.parameter_masks()
    assert residual.stem[0].weight in masks
    assert residual.stem[1].weight not in masks
    for parameter, mask in masks.items():
        assert not (parameter * (1 - mask)).any()
    assert masks[residual.stem[0].weight].flatten().tolist() == [float(j % 3 == 0) for j in range(16)]


def test_a_weight_that_layers_share_is_one_part():
    """Its gradient must not count twice."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.head = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)
            self.two.weight = self.one.weight

        def forward(self, x):
            return self.head(self.one(x) + self.two(x + 1))

    model = Shared()
    group = find_groups(model, tensor_forward(torch.zeros(1, 4))).groups[0]
    assert [part.name for part in filter_parts(model, group)] == ['one.weight', 'one.bias', 'two.bias']


def test_masks_of_other_groups_are_refused(residual):
    """With the numbers."""
    groups = find_groups(residual, FORWARD).groups
    with pytest.raises(MmsharpError, match='channels for groups of'):
        SoftPruning(residual, groups, every_third_kept(groups)[:-1])


class Neck(nn.Module):
    """Three levels, mmdet's feature pyramid over them, and a layer that reads all of its outputs."""

    def __init__(self):
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(3, 6, 3, stride=2, padding=1) for _ in range(3))
        self.down = nn.ModuleList(nn.Conv2d(6, 3, 1) for _ in range(2))
        self.neck = FPN([6, 6, 6], out_channels=8, num_outs=3)
        self.read = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        features = [self.levels[0](x)]
        for level, down in zip(self.levels[1:], self.down):
            features.append(level(down(features[-1])))
        return tuple(self.read(level) for level in self.neck(features))


def test_the_coupled_filters_of_a_neck_go_and_come_back_together():
    """A channel of the lateral layers, which sums couple, is zero in all levels or in none, and has one pulse."""
    torch.manual_seed(0)
    model, images = Neck(), torch.randn(2, 3, 32, 32)
    for lateral in model.neck.lateral_convs:
        nn.init.normal_(lateral.conv.bias)
    groups = find_groups(model, tensor_forward(images)).groups
    laterals = {f'neck.lateral_convs.{level}.conv.{name}' for level in range(3) for name in ('weight', 'bias')}
    (number,) = (n for n, group in enumerate(groups) if laterals <= {part.name for part in filter_parts(model, group)})
    keep = [torch.ones(group.channels, dtype=torch.bool) for group in groups]
    keep[number][[2, 5]] = False
    before = copy.deepcopy(model.state_dict())
    soft = SoftPruning(model, groups, keep)
    soft.zero_()
    assert {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])} == laterals
    watch = PulseWatch(soft)
    sum(level.square().mean() for level in model(images)).backward()
    gradients = watch.gradients()
    watch.take_step(gradients)
    squares = sum(gradient[0].double().square().sum() for gradient in gradients)
    assert len(gradients) == len(laterals)
    torch.testing.assert_close(watch.pulses()[number][2].double(), squares.sqrt(), rtol=1e-5, atol=0)
    back = [torch.zeros_like(mask) for mask in keep]
    back[number][2] = True
    soft.restore_(back)
    for name in laterals:
        now = model.state_dict()[name]
        assert not now[5].any()
        assert torch.equal(torch.cat([now[:5], now[6:]]), torch.cat([before[name][:5], before[name][6:]])), name
