"""Laws of groups without gradients: their Taylor score is unknown, which is not 0, and they are left whole."""

import io
import math
import os

import pytest
import torch
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import ChannelPruner, Taylor, count_parameters, find_groups, tensor_forward
from mmsharp.registry import ALLOCATIONS

IMAGE = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
FORWARD = tensor_forward(IMAGE)
ALLOCATIONS.import_from_location()
every_allocation = pytest.mark.parametrize('allocation', sorted(ALLOCATIONS.module_dict))


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3), nn.BatchNorm2d(outputs), nn.ReLU())


class Blocks(nn.Module):
    """Three blocks of convolution and BatchNorm, and a classifier."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = block(3, 32), block(32, 32), block(32, 32)
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.third(self.second(self.first(x))).mean(dim=(2, 3)))


class Sum(nn.Module):
    """Two convolutions whose outputs are added, so that they make the same channels."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = block(3, 8), block(3, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        return self.head(self.one(x) + self.two(x))


def made(kind):
    torch.manual_seed(0)
    model = kind()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return model


def freeze(module, evaluate=True):
    """As mmdet does: no gradients, and the running statistics."""
    module.requires_grad_(False)
    return module.eval() if evaluate else module


def backward(model, scale=1.0):
    model.zero_grad()
    (model(IMAGE) ** 3).mean().mul(scale).backward()


def longhand(*tensors):
    return sum((tensor * tensor.grad).reshape(len(tensor), -1).sum(dim=1) for tensor in tensors).detach().abs()


def test_frozen_batch_norms_hand_over_to_the_weights():
    """With running statistics, ``|<w_c, g_c>|`` of the convolution that makes the channel."""
    model = made(Blocks)
    freeze(model.first[1])
    groups = find_groups(model, FORWARD).groups
    taylor = Taylor()
    backward(model)
    taylor.observe(model, groups)
    assert torch.allclose(taylor(model, groups[0]), longhand(model.first[0].weight))
    assert torch.allclose(taylor(model, groups[1]), longhand(model.second[1].weight, model.second[1].bias))


def test_the_length_of_filters_says_nothing_where_each_batch_is_normalised():
    """``<w_c, g_c>`` is 0 behind batch statistics: a BatchNorm frozen in training mode leaves no score."""
    model = made(Blocks)
    freeze(model.first[1], evaluate=False)
    groups = find_groups(model, FORWARD).groups
    taylor = Taylor()
    assert 'statistics of each batch' in taylor.unscored(model, groups[0])  # before anything is seen
    assert Taylor('weight').unscored(model, groups[0]) is None
    backward(model)
    assert longhand(model.first[0].weight).max() < 1e-3 * longhand(model.second[1].weight).max()
    taylor.observe(model, groups)
    assert 'statistics of each batch' in taylor.unscored(model, groups[0])
    assert taylor.unscored(model, groups[1]) is None
    with pytest.raises(MmsharpError, match=r"no score of group 'first\.0'.*norm_eval.*mmsharp\.Magnitude"):
        taylor(model, groups[0])


@pytest.mark.parametrize('on', ['norm', 'weight'])
def test_layers_without_gradients_count_as_much_as_the_others_on_average(on):
    """Two layers make a channel, one is frozen: twice the other's share, so that groups compare."""
    model = made(Sum).eval()
    freeze(model.one)
    [group] = find_groups(model, FORWARD).groups
    taylor = Taylor(on)
    backward(model)
    taylor.observe(model, (group,))
    tensors = [model.two[0].weight] if on == 'weight' else [model.two[1].weight, model.two[1].bias]
    assert torch.allclose(taylor(model, group), 2 * longhand(*tensors))


def test_frozen_parameters_that_still_hold_a_gradient_say_nothing():
    """Zeros, or the gradient of before."""
    model = made(Blocks)
    groups = find_groups(model, FORWARD).groups
    backward(model)
    freeze(model.first)
    taylor = Taylor()
    taylor.observe(model, groups)
    assert 'no parameter of it' in taylor.unscored(model, groups[0])


def test_the_mean_is_over_the_steps_in_which_a_group_had_a_gradient():
    """A group frozen in one of three steps, and one in all of them; the state carries both."""
    model = made(Blocks)
    groups = find_groups(model, FORWARD).groups
    taylor, expected = Taylor(), torch.zeros(32)
    freeze(model.third)
    for step in range(3):
        model.first.requires_grad_(step != 1)
        backward(model, 1.0 + step)
        taylor.observe(model, groups)
        if step != 1:
            expected += longhand(model.first[1].weight, model.first[1].bias) / 2
    assert torch.allclose(taylor(model, groups[0]), expected)
    other = Taylor()
    other.load_state_dict(taylor.state_dict())
    assert [other.unscored(model, group) for group in groups] == [None, None, taylor.unscored(model, groups[2])]
    assert torch.equal(other(model, groups[0]), taylor(model, groups[0]))
    assert torch.load(_saved(taylor), weights_only=True).keys() == taylor.state_dict().keys()
    taylor.reset()
    model.third.requires_grad_(True)
    assert taylor.unscored(model, groups[2]) is None


def _saved(taylor):
    file = io.BytesIO()
    torch.save(taylor.state_dict(), file)
    file.seek(0)
    return file


@every_allocation
def test_frozen_groups_are_left_whole_and_the_others_meet_the_budget(allocation, monkeypatch):
    """Whatever the allocation; the log names them when the model is attached and when that changes."""
    said = []
    monkeypatch.setattr('mmsharp.pruning.channel_pruner.print_log', lambda text, *_: said.append(text))
    model = made(Blocks)
    freeze(model.first)
    pruner = ChannelPruner({'params': 0.6}, Taylor(), {'type': allocation}, round_to=1)
    pruner.attach(model, FORWARD)
    for progress in (0.5, 1.0):
        backward(model)
        pruner.observe()
        pruner.update(progress)
        assert pruner.kept['params'] <= pruner.schedule(progress, 0.6)
    assert pruner.masks.keep[0].all()
    assert pruner.kept['params'] > 0.56
    [line] = said
    assert "1 group ('first.0'), because no parameter of it" in line
    assert line.startswith('mmsharp: Taylor has no score of')
    assert pruner.verify(FORWARD) < 1e-5
    model.first.requires_grad_(True)
    pruner.target = 0.5
    backward(model)
    pruner.observe()
    pruner.update(1.0)
    assert said[1:] == ['mmsharp: Taylor now has a score of each group']


def test_a_group_that_freezes_later_keeps_what_it_has():
    """It stays as it was when it froze."""
    model = made(Blocks)
    pruner = ChannelPruner({'params': 0.4}, Taylor(), {'type': 'Uniform'}, round_to=1)
    pruner.attach(model, FORWARD)
    alive = []
    for progress in (0.4, 1.0):
        backward(model)
        pruner.observe()
        pruner.update(progress)
        alive.append([int(mask.sum()) for mask in pruner.masks.keep])
        freeze(model.first)
    assert alive[1][0] == alive[0][0] < 32
    assert alive[1][1] < alive[0][1]
    assert pruner.kept['params'] <= 0.4


def test_a_budget_that_needs_frozen_groups_is_refused_at_once():
    """With what can be reached without them, which then can be reached, and which they are."""
    model = made(Blocks)
    freeze(model.first)
    freeze(model.second)
    words = r"smallest kept fraction is 0\.\d+.*2 groups \('first\.0', 'second\.0'\)"
    with pytest.raises(MmsharpError, match=words) as no:
        ChannelPruner({'params': 0.5}, Taylor(), round_to=1).attach(model, FORWARD)
    assert 'mmsharp.Magnitude' in str(no.value)
    reachable = float(str(no.value).split('fraction is ')[1][:6])
    pruner = ChannelPruner({'params': reachable}, Taylor(), round_to=1)
    pruner.attach(model, FORWARD)
    backward(model)
    pruner.observe()
    pruner.update(1.0)
    assert [int(mask.sum()) for mask in pruner.masks.keep] == [32, 32, 1]
    ChannelPruner({'params': 0.5}, round_to=1).attach(model, FORWARD)  # magnitude needs no gradient


def test_gradients_that_are_not_finite_are_told_from_none():
    """More steps would not help."""
    model = made(Blocks)
    groups = find_groups(model, FORWARD).groups
    taylor = Taylor()
    with pytest.raises(MmsharpError, match=r'has seen no gradient .* warm-up'):
        taylor(model, groups[0])
    backward(model, scale=math.nan)
    taylor.observe(model, groups)
    with pytest.raises(MmsharpError, match=r'no finite gradient .* diverges'):
        taylor(model, groups[0])


def test_what_was_seen_before_does_not_refuse_a_budget():
    """A group that was frozen when a checkpoint was written may have a gradient by the next pruning step."""
    model = made(Blocks)
    groups = find_groups(model, FORWARD)
    freeze(model.second)
    taylor = Taylor()
    backward(model)
    taylor.observe(model, groups.groups)
    model.second.requires_grad_(True)
    pruner = ChannelPruner({'params': 0.02}, taylor, round_to=1)
    pruner.attach(model, FORWARD, groups)
    with pytest.raises(MmsharpError, match=r"has no score of 1 group \('second\.0'\)"):
        pruner.update(1.0)
    assert all(mask.all() for mask in pruner.masks.keep)


def test_an_allocation_that_prunes_them_all_the_same_is_refused():
    """By name, with what it has to respect; nothing changes."""

    def careless(scores, keep, target, fraction, limits):
        return [torch.arange(len(mask)) < 1 for mask in keep]

    model = made(Blocks)
    freeze(model.first)
    pruner = ChannelPruner({'params': 0.6}, Taylor(), careless)
    pruner.attach(model, FORWARD)
    backward(model)
    pruner.observe()
    with pytest.raises(MmsharpError, match=r"function prunes group 'first\.0'.*limits\.allowed_in"):
        pruner.update(1.0)
    assert all(mask.all() for mask in pruner.masks.keep)


@pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts
@pytest.mark.parametrize('config', ['retinanet_r50_fpn', 'faster-rcnn_r50-caffe-c4'])
def test_backbones_that_packaged_configs_freeze(config):
    """The stem and the first stage stay whole; frozen BatchNorms of the others leave the scores to the weights."""
    mmdet = pytest.importorskip('mmdet')
    from mmdet.models.backbones import ResNet
    from mmengine.config import Config

    path = os.path.join(os.path.dirname(mmdet.__file__), '.mim', 'configs', '_base_', 'models', f'{config}.py')
    settings = Config.fromfile(path).model.backbone.to_dict()
    settings = {key: value for key, value in settings.items() if key not in ('type', 'init_cfg')}
    assert settings['frozen_stages'] == 1
    assert settings['norm_eval'] is True
    torch.manual_seed(0)
    model = ResNet(**{**settings, 'base_channels': 8, 'depth': 50})
    model.train()  # gives nothing back
    forward = tensor_forward(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    pruner = ChannelPruner({'params': 0.6}, Taylor(), {'type': 'Global'}, round_to=1)
    pruner.attach(model, forward)
    frozen = {group.name for group in pruner.groups.groups if group.name.startswith(('conv1', 'layer1'))}
    assert pruner.unscored().keys() == frozen != set()
    sum(output.square().mean() for output in forward(model)).backward()
    pruner.observe()
    assert pruner.unscored().keys() == frozen
    for group, scores in zip(pruner.groups.groups, pruner.scores()):
        assert bool(scores.any()) == (group.name not in frozen)
    pruner.update(1.0)
    for group, mask in zip(pruner.groups.groups, pruner.masks.keep):
        assert group.name not in frozen or mask.all()
    assert pruner.kept['params'] <= 0.6
    assert count_parameters(model) == pruner.cost.dense['params']


BROKEN = {
    'nothing': (None, 'found a NoneType'),
    'a list': ([1], 'found a list'),
    'keys lacking': ({'sums': {}}, "found 'sums'"),
    'another key': ({'sums': {}, 'steps': {}, 'x' * 10**6: {}}, 'found'),
    'one number of steps for all': ({'sums': {}, 'steps': torch.ones(()), 'reasons': {}}, 'steps is not a dict'),
    'numbers for sums': ({'sums': {'a': 1.0}, 'steps': {}, 'reasons': {}}, 'sums is not a dict of names to Tensor'),
    'a tensor for a reason': ({'sums': {}, 'steps': {}, 'reasons': {'a': torch.ones(1)}}, 'names to str'),
    'no steps': ({'sums': {'a': torch.ones(3)}, 'steps': {}, 'reasons': {}}, "'a' has a sum of shape .* no numbers"),
    'many steps': ({'sums': {'a': torch.ones(3)}, 'steps': {'a': torch.ones(2)}, 'reasons': {}}, '2 numbers of steps'),
    'a matrix': ({'sums': {'a': torch.ones(3, 3)}, 'steps': {'a': torch.ones(())}, 'reasons': {}}, r'shape \(3, 3\)'),
    'no sum': ({'sums': {}, 'steps': {'a': torch.ones(())}, 'reasons': {}}, "steps of 'a', which has no sum"),
}


@pytest.mark.parametrize('name', BROKEN)
def test_a_state_that_is_not_ours_is_refused(name):
    """One short error that says what was found; what had been seen stays."""
    state, words = BROKEN[name]
    model = made(Blocks)
    groups = find_groups(model, FORWARD).groups
    taylor = Taylor()
    backward(model)
    taylor.observe(model, groups)
    before = taylor(model, groups[0])
    with pytest.raises(MmsharpError, match=words) as refusal:
        taylor.load_state_dict(state)
    assert len(str(refusal.value)) < 600
    assert torch.equal(taylor(model, groups[0]), before)


def test_a_state_of_another_model_is_refused():
    """At the next step, by the group whose channels it does not have."""
    model = made(Blocks)
    groups = find_groups(model, FORWARD).groups
    taylor = Taylor()
    taylor.load_state_dict({'sums': {'first.0': torch.ones(3)}, 'steps': {'first.0': torch.ones(())}, 'reasons': {}})
    backward(model)
    with pytest.raises(MmsharpError, match=r"group 'first\.0' has 32 channels, but 3"):
        taylor.observe(model, groups)
