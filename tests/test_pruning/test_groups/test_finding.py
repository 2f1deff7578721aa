import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from mmsharp.errors import MmsharpError
from mmsharp.pruning import find_groups, tensor_forward

from ..conftest import assert_masked_equals_slim, masked_and_slim

IMAGE = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


class Double(torch.autograd.Function):
    """Stands for a kernel that runs where no dispatcher sees it."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.detach().numpy() * 2)

    @staticmethod
    def backward(ctx, grad):
        return grad * 2


class Net(nn.Module):
    """Two convolutions, something between them and the outputs, given as a function of the net and their results."""

    def __init__(self, middle, **layers):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(layers.pop('width', 8), 2, 1)
        self.middle = middle
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.last(self.middle(self, self.a(x), self.b(x)))


def attend(x, qkv):
    """Attention of two heads whose width follows from the layer: each head loses the same channels."""
    q, k, v = qkv(x).reshape(*x.shape[:2], 3, 2, -1).permute(2, 0, 3, 1, 4)
    x = (q @ k.transpose(-2, -1) * 0.5).softmax(-1) @ v
    return x.transpose(1, 2).reshape(2, 8, 8, -1).permute(0, 3, 1, 2)


def members(groups):
    return {group.name: {(m.module, m.axis) for m in group.members} for group in groups.groups}


COUPLINGS = {
    'residual': (lambda n, a, b: a + b, {}, {'a': {('a', 'out'), ('b', 'out'), ('last', 'in')}}),
    'product': (lambda n, a, b: a * b.sigmoid(), {}, {'a': {('a', 'out'), ('b', 'out'), ('last', 'in')}}),
    'pooling to one pixel in channels_last': (
        lambda n, a, b: a * functional.adaptive_avg_pool2d(a.to(memory_format=torch.channels_last), 1).sigmoid(),
        {},
        {'a': {('a', 'out'), ('last', 'in')}},
    ),
    'concatenation': (
        lambda n, a, b: n.norm(torch.cat([a, b], 1)),
        {'width': 16, 'norm': nn.BatchNorm2d(16)},
        {
            'a': {('a', 'out'), ('norm', 'out'), ('last', 'in')},
            'b': {('b', 'out'), ('norm', 'out'), ('last', 'in')},
        },
    ),
    'gate over a concatenation': (
        lambda n, a, b: (c := torch.cat([a, b], 1)) * n.gate(c.mean((2, 3), keepdim=True)).sigmoid(),
        {'width': 16, 'gate': nn.Conv2d(16, 16, 1)},
        {
            'a': {('a', 'out'), ('gate', 'out'), ('gate', 'in'), ('last', 'in')},
            'b': {('b', 'out'), ('gate', 'out'), ('gate', 'in'), ('last', 'in')},
        },
    ),
    'depthwise': (
        lambda n, a, b: n.depthwise(a) + b,
        {'depthwise': nn.Conv2d(8, 8, 3, padding=1, groups=8)},
        {'a': {('a', 'out'), ('b', 'out'), ('depthwise', 'out'), ('last', 'in')}},
    ),
    'shared layer': (
        lambda n, a, b: n.shared(a) + n.shared(b),
        {'shared': nn.Conv2d(8, 8, 1)},
        {
            'a': {('a', 'out'), ('b', 'out'), ('shared', 'in')},
            'shared': {('shared', 'out'), ('last', 'in')},
        },
    ),
    'transposed': (
        lambda n, a, b: n.up(a),
        {'up': nn.ConvTranspose2d(8, 8, 2, stride=2)},
        {'a': {('a', 'out'), ('up', 'in')}, 'up': {('up', 'out'), ('last', 'in')}},
    ),
    'tokens': (
        lambda n, a, b: n.mix(a.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(2, -1, 8, 8) + b,
        {'mix': nn.Linear(8, 8)},
        {'a': {('a', 'out'), ('mix', 'in')}, 'b': {('b', 'out'), ('mix', 'out'), ('last', 'in')}},
    ),
    'pooling, resizing and padding': (
        lambda n, a, b: (
            functional.interpolate(functional.max_pool2d(a, 2), scale_factor=2) + functional.pad(b, [0] * 4)
        ),
        {},
        {'a': {('a', 'out'), ('b', 'out'), ('last', 'in')}},
    ),
    'raw parameter': (
        lambda n, a, b: a * n.scale,
        {'scale': nn.Parameter(torch.linspace(1, 2, 8).reshape(1, 8, 1, 1))},
        {'a': {('a', 'out'), ('', 'scale.1'), ('last', 'in')}},
    ),
    'convolution in many groups': (
        lambda n, a, b: n.grouped(a),
        {'width': 16, 'grouped': nn.Conv2d(8, 16, 3, padding=1, groups=8)},
        {'a': {('a', 'out'), ('grouped', 'out'), ('grouped', 'in'), ('grouped', 'groups'), ('last', 'in')}},
    ),
    'convolution in two groups': (
        lambda n, a, b: n.parted(a),
        {'parted': nn.Conv2d(8, 8, 3, padding=1, groups=2)},
        {
            'a': {('a', 'out'), ('parted', 'in'), ('parted', 'inner')},
            'parted': {('parted', 'out'), ('last', 'in')},
        },
    ),
    'halves that change places': (
        lambda n, a, b: torch.cat(a.chunk(2, 1)[::-1], 1),
        {},
        {'a': {('a', 'out'), ('last', 'in')}},
    ),
    'halves by slices': (
        lambda n, a, b: torch.cat([n.side(a[:, : a.shape[1] // 2]), a[:, a.shape[1] // 2 :]], 1),
        {'side': nn.Conv2d(4, 4, 1)},
        {'a': {('a', 'out'), ('side', 'in'), ('last', 'in')}, 'side': {('side', 'out'), ('last', 'in')}},
    ),
    'shuffling': (
        lambda n, a, b: a.reshape(2, 2, -1, 8, 8).transpose(1, 2).reshape(2, -1, 8, 8),
        {},
        {'a': {('a', 'out'), ('last', 'in')}},
    ),
    'a statistic that nobody reads': (
        lambda n, a, b: (a.mean(1), a)[1],
        {},
        {'a': {('a', 'out'), ('last', 'in')}},
    ),
    'a statistic that nobody reads, scaled': (
        lambda n, a, b: (a.mean(1) / 2, a)[1],
        {},
        {'a': {('a', 'out'), ('last', 'in')}},
    ),
    'whole groups of a normalisation': (
        lambda n, a, b: n.norm(a),
        {'norm': nn.GroupNorm(4, 8)},
        {'a': {('a', 'out'), ('norm', 'out'), ('norm', 'groups'), ('last', 'in')}},
    ),
    'normalisation over zeros': (
        lambda n, a, b: n.norm(a.relu().permute(0, 2, 3, 1) * 2 + b.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        {'norm': nn.LayerNorm(8)},
        {'a': {('a', 'out'), ('b', 'out'), ('norm', 'out'), ('last', 'in')}},
    ),
    'normalisation over zeros, in one group': (
        lambda n, a, b: n.norm(torch.cat([a, functional.silu(b)], 1)),
        {'norm': nn.GroupNorm(1, 16), 'width': 16},
        {
            'a': {('a', 'out'), ('norm', 'out'), ('last', 'in')},
            'b': {('b', 'out'), ('norm', 'out'), ('last', 'in')},
        },
    ),
    'product of zeros': (
        lambda n, a, b: b * (a.flatten(2).transpose(1, 2) @ n.c(a).flatten(2)).mean(2).reshape(2, 1, 8, 8),
        {'c': nn.Conv2d(8, 8, 1)},
        {
            'a': {('a', 'out'), ('c', 'in'), ('c', 'out')},
            'b': {('b', 'out'), ('last', 'in')},
        },
    ),
    'attention whose heads keep their number': (
        lambda n, a, b: attend(a.flatten(2).transpose(1, 2), n.qkv),
        {'qkv': nn.Linear(8, 24)},
        {'a': {('a', 'out'), ('qkv', 'in')}, 'qkv': {('qkv', 'out'), ('last', 'in')}},
    ),
    'sampling': (
        lambda n, a, b: functional.grid_sample(a, IMAGE[:, :2].permute(0, 2, 3, 1), align_corners=False) + b,
        {},
        {'a': {('a', 'out'), ('b', 'out'), ('last', 'in')}},
    ),
    'l2 normalisation': (
        lambda n, a, b: a / (a.pow(2).sum(1, keepdim=True).sqrt() + 1e-6),
        {},
        {'a': {('a', 'out'), ('last', 'in')}},
    ),
    'attention': (
        lambda n, a, b: n.attention(*[a.flatten(2).permute(2, 0, 1)] * 3)[0].permute(1, 2, 0).reshape(2, -1, 8, 8),
        {'attention': nn.MultiheadAttention(8, 4)},
        {
            'a': {('a', 'out'), ('attention', 'in_proj_weight.1')},
            'attention': {
                ('attention', 'heads'),
                ('attention', 'in_proj_weight.0'),
                ('attention', 'in_proj_bias.0'),
                ('attention.out_proj', 'in'),
            },
            'attention.out_proj': {('attention.out_proj', 'out'), ('last', 'in')},
        },
    ),
}


@pytest.mark.parametrize('name', COUPLINGS)
def test_coupled_channels(name):
    """The members of each group are exactly the layers that see its channels, and masked equals slim."""
    torch.manual_seed(0)
    middle, layers, expected = COUPLINGS[name]
    model = Net(middle, **layers)
    groups, _, outputs = masked_and_slim(model, tensor_forward(IMAGE))
    found = members(groups)
    found.pop('b', None) if 'b' not in expected else None  # a second convolution that the case leaves unused
    assert found == expected
    assert_masked_equals_slim(outputs)


@pytest.mark.parametrize('moved', [(1, 2, 1, 1), (8, 1, 1, 1)])
def test_other_strides_that_move_numbers_pin_them(moved):
    """Those that leave them where they are do not, though the call is the same."""

    def middle(net, a, b):
        return a * a.mean(dim=(2, 3), keepdim=True).as_strided((2, 8, 1, 1), moved).sigmoid()

    dense = {layer.module: layer.reason for layer in find_groups(Net(middle), tensor_forward(IMAGE)).dense}
    assert ('as_strided' in dense.get('a', '')) == (moved[0] == 1)


def test_index_maps(residual):
    """After concatenation positions are offset; after flattening a channel owns a run of positions."""
    model = Net(lambda n, a, b: torch.cat([a, b], 1), width=16)
    second = {m.module: m for m in find_groups(model, tensor_forward(IMAGE)).groups[1].members}['last']
    assert second.positions.tolist() == list(range(8, 16))
    assert second.channels.tolist() == list(range(8))
    stem = find_groups(residual, tensor_forward(IMAGE)).groups[0]
    flattened = {(m.module, m.axis): m for m in stem.members}['head.2', 'in']
    assert flattened.channels.tolist() == [channel for channel in range(16) for _ in range(4)]


WHOLE = {
    'group normalisation by a function': (
        lambda n, a, b: functional.group_norm(a, 2, n.scale),
        {'scale': nn.Parameter(torch.linspace(1, 2, 8))},
        'statistics over channels',
    ),
    'normalisation of what is not zero': (
        lambda n, a, b: n.norm(a.sigmoid().permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        {'norm': nn.LayerNorm(8)},
        'layer normalisation',
    ),
    'normalisation after a shift': (
        lambda n, a, b: n.norm((a + 1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        {'norm': nn.LayerNorm(8)},
        'layer normalisation',
    ),
    'normalisation of zeros, then of others': (
        lambda n, a, b: (
            n.norm(a.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) + n.norm((a + 1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        ),
        {'norm': nn.LayerNorm(8)},
        'layer normalisation',
    ),
    'normalisation after a part was changed': (
        lambda n, a, b: (a[..., :4].add_(1), n.norm(a.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))[1],
        {'norm': nn.LayerNorm(8)},
        'layer normalisation',
    ),
    'layer normalisation': (lambda n, a, b: n.norm(a), {'norm': nn.LayerNorm([8, 8, 8])}, 'layer normalisation'),
    'functional layer normalisation': (
        lambda n, a, b: functional.layer_norm(a.permute(0, 2, 3, 1), [8]).permute(0, 3, 1, 2),
        {},
        'layer normalisation',
    ),
    'mean over channels': (lambda n, a, b: a * a.mean(1, keepdim=True), {}, 'reads all channels'),
    'softmax over channels': (lambda n, a, b: a.softmax(1), {}, 'softmax'),
    'attention over channels': (
        lambda n, a, b: ((c := a.flatten(2)) @ c.transpose(1, 2)).softmax(1).matmul(c).reshape(a.shape),
        {},
        'softmax over channels',
    ),
    'product of what is not zero': (
        lambda n, a, b: ((c := a.flatten(2).sigmoid()) @ (c.transpose(1, 2) @ c)).reshape(a.shape),
        {},
        'without a stored weight',
    ),
    'constant': (lambda n, a, b: a + torch.ones(1, 8, 1, 1), {}, 'fixed'),
    'parts by stored numbers': (lambda n, a, b: torch.cat([a[:, 4:], a[:, :4]], 1), {}, 'a slim copy differs'),
    'shuffling by stored numbers': (
        lambda n, a, b: a.reshape(2, 2, 4, 8, 8).transpose(1, 2).reshape(2, 8, 8, 8),
        {},
        'a slim copy fails with RuntimeError',
    ),
    'a width that is a number': (lambda n, a, b: a.reshape(2, 8, 64).reshape(a.shape), {}, 'a slim copy fails'),
    'unequal parts': (lambda n, a, b: torch.cat(a.split([3, 5], 1)[::-1], 1), {}, 'by their number'),
    'every second channel': (lambda n, a, b: torch.cat([a[:, ::2], a[:, 1::2]], 1), {}, 'by their number'),
    'sorting': (lambda n, a, b: a.sort(1).values, {}, '`sort` along channels'),
    'indexing': (lambda n, a, b: a[:, torch.arange(7, -1, -1)], {}, 'by their number'),
    'a statistic that is read': (lambda n, a, b: a * a.amax(1, keepdim=True), {}, 'reads all channels'),
    'a statistic, scaled and read': (
        lambda n, a, b: a * (a.amax(1, keepdim=True) / 2),
        {},
        'reads all channels',
    ),
    'custom function': (lambda n, a, b: Double.apply(a), {}, 'custom function Double'),
    'written into a buffer': (lambda n, a, b: torch.zeros(2, 8, 8, 8).copy_(a), {}, 'fixed'),
    'written into a slice': (lambda n, a, b: torch.zeros(2, 8, 8, 8).index_copy_(1, torch.arange(8), a), {}, ''),
}


@pytest.mark.parametrize('name', WHOLE)
def test_left_dense_and_listed(name):
    """What takes channels together, or is not understood, keeps them all, and the reason is given."""
    torch.manual_seed(0)
    middle, layers, reason = WHOLE[name]
    groups, _, outputs = masked_and_slim(Net(middle, **layers), tensor_forward(IMAGE))
    assert 'a' not in members(groups)
    assert reason in {layer.module: layer.reason for layer in groups.dense}['a']
    assert_masked_equals_slim(outputs)


def test_index_maps_of_parts_and_heads():
    """A group of a convolution owns a run of positions; halves, and queries, keys and values, share channels."""
    grouped = Net(lambda n, a, b: n.g(a), width=16, g=nn.Conv2d(8, 16, 1, groups=8))
    maps = {
        (m.module, m.axis): m.channels.tolist() for m in find_groups(grouped, tensor_forward(IMAGE)).groups[0].members
    }
    assert maps['g', 'out'] == maps['last', 'in'] == [channel for channel in range(8) for _ in range(2)]
    assert maps['g', 'in'] == maps['g', 'groups'] == list(range(8))
    halves = Net(COUPLINGS['halves that change places'][0])
    assert find_groups(halves, tensor_forward(IMAGE)).groups[0].members[0].channels.tolist() == [0, 1, 2, 3] * 2
    attention = Net(COUPLINGS['attention'][0], attention=nn.MultiheadAttention(8, 4))
    found = {group.name: group for group in find_groups(attention, tensor_forward(IMAGE)).groups}['attention']
    maps = {(m.module, m.axis): m.channels.tolist() for m in found.members}
    assert found.channels == 4
    assert maps['attention', 'in_proj_weight.0'] == [0, 0, 1, 1, 2, 2, 3, 3] * 3
    assert maps['attention.out_proj', 'in'] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_channels_tied_into_one_are_listed():
    """A shuffle of six channels after one of both halves leaves nothing that could go alone."""

    def shuffle(x):
        return x.reshape(2, 2, -1, 8, 8).transpose(1, 2).reshape(2, -1, 8, 8)

    model = Net(lambda n, a, b: shuffle(shuffle(n.six(a))), six=nn.Conv2d(8, 6, 1), width=6)
    groups = find_groups(model, tensor_forward(IMAGE))
    assert 'six' not in members(groups)
    assert 'tied into one' in {layer.module: layer.reason for layer in groups.dense}['six']


class Blocks(nn.Module):
    """The same block several times; each stores the width that its reshape gives."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong
        self.first = nn.ModuleList(nn.Linear(6, 8) for _ in range(4))
        self.second = nn.ModuleList(nn.Linear(8, 6) for _ in range(4))

    def forward(self, x):
        for number, (first, second) in enumerate(zip(self.first, self.second)):
            x = first(x).relu()
            x = second(x.reshape(-1, 8) if number in self.wrong else x)
        return x


def test_what_a_slim_copy_refuses_is_found_among_many():
    """The group to blame is named, with those at the same place of the other blocks; the rest is pruned."""
    right = members(find_groups(Blocks(()), tensor_forward(torch.ones(3, 6))))
    wrong = find_groups(Blocks((1, 3)), tensor_forward(torch.ones(3, 6)))
    assert set(right) == {f'first.{n}' for n in range(4)} | {f'second.{n}' for n in range(3)}
    assert set(members(wrong)) == {f'second.{n}' for n in range(3)}
    assert all('fails with RuntimeError' in layer.reason for layer in wrong.dense if layer.module.startswith('first'))


def test_constant_parameters_hide_nothing():
    """A scale of zero, as residual blocks start with, would make every slim copy agree."""
    model = Net(
        lambda n, a, b: n.inner(torch.cat([a[:, 4:], a[:, :4]], 1)) * n.gamma,
        inner=nn.Conv2d(8, 8, 1),
        gamma=nn.Parameter(torch.zeros(8, 1, 1)),
    )
    found = find_groups(model, tensor_forward(IMAGE))
    assert 'a' not in members(found)
    assert not model.gamma.any()


def test_a_forward_that_changes_its_mind_is_refused():
    """Copies that disagree with each other prove nothing."""
    count = iter(range(100))
    with pytest.raises(MmsharpError, match='two copies of Net disagree on the same input'):
        find_groups(Net(lambda n, a, b: a + b), lambda model: model(IMAGE) * next(count))


def test_outputs_stay_whole():
    """Channels that reach the outputs are kept, also through activations, reshapes and containers."""
    model = Net(lambda n, a, b: a)
    forward = lambda m: {'scores': [m(IMAGE).permute(0, 2, 3, 1).reshape(2, -1, 2).sigmoid()]}  # noqa: E731
    reasons = {layer.module: layer.reason for layer in find_groups(model, forward).dense}
    assert reasons['last'] == "reaches the model's outputs"


def test_unreached_and_single_channels_are_listed():
    """Layers that the forward never used, and those with one channel, are listed."""
    model = Net(lambda n, a, b: n.one(a) * b, one=nn.Conv2d(8, 1, 1), unused=nn.Conv2d(8, 8, 1))
    reasons = {layer.module: layer.reason for layer in find_groups(model, tensor_forward(IMAGE)).dense}
    assert 'not reached' in reasons['unused']
    assert reasons['one'] == 'has a single output channel'


@pytest.mark.parametrize(
    ('layer', 'reason'),
    [
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1)), 'computed'),
        (nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 1)), 'computed'),
        (nn.ConvTranspose2d(8, 8, 1, groups=2), 'transposed convolution in groups'),
    ],
    ids=['weight_norm', 'spectral_norm', 'grouped transposed convolution'],
)
def test_layers_that_no_row_describes_are_listed_once(layer, reason):
    """What is not understood is left dense and listed, and so is what feeds it."""
    model = Net(lambda n, a, b: n.foreign(a) + b, foreign=layer)
    found = find_groups(model, tensor_forward(IMAGE))
    reasons = [listed.reason for listed in found.dense if listed.module == 'foreign']
    assert len(reasons) == 1
    assert reason in reasons[0]
    assert not any(path.startswith('foreign') for group in found.groups for path in [m.module for m in group.members])


class OwnWeights(nn.Module):
    """A convolution whose weights are the module's own."""

    def __init__(self, then=lambda y: y):
        super().__init__()
        self.then = then
        self.weight, self.scale = nn.Parameter(torch.randn(8, 8, 3, 3)), nn.Parameter(torch.rand(8))

    def forward(self, inputs):
        return self.then(nn.functional.conv2d(inputs, self.weight, padding=1) * self.scale[:, None, None])


@pytest.mark.parametrize(
    ('then', 'reason'),
    [(lambda y: y, 'of its own'), (lambda y: y + y.flip(1), '`flip`'), (lambda y: y.softmax(1), 'softmax')],
    ids=['free', 'flipped', 'softmax'],
)
def test_channels_that_no_layer_makes_are_listed(then, reason):
    """They are known and stay, and the user is told."""
    model = nn.Sequential(nn.Conv2d(2, 8, 1), OwnWeights(then), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1))
    found = find_groups(model, tensor_forward(torch.randn(1, 2, 8, 8)))
    assert [group.name for group in found.groups] == ['0', '2']
    assert [(layer.module, reason in layer.reason) for layer in found.dense] == [('3', False), ('1', True)]


def test_frozen_parameters_are_followed(residual):
    """Frozen stages and code under no_grad give the same groups."""
    expected = members(find_groups(residual, tensor_forward(IMAGE)))
    residual.requires_grad_(False)
    assert members(find_groups(residual, tensor_forward(IMAGE))) == expected


def test_tied_parameters_form_one_group():
    """Layers that share a parameter prune alike, and both are rebuilt."""
    torch.manual_seed(0)
    model = Net(lambda n, a, b: n.c(a) + 1, c=nn.Conv2d(8, 8, 1))
    model.b.weight, model.b.bias = model.a.weight, model.a.bias
    groups, slim, outputs = masked_and_slim(model, tensor_forward(IMAGE))
    assert {('a', 'out'), ('b', 'out')} <= members(groups)['a']
    assert slim.a.weight is slim.b.weight
    assert slim.a.out_channels == slim.b.out_channels == slim.a.weight.shape[0] < 8
    assert_masked_equals_slim(outputs)


def test_ignored_layers_keep_their_outputs(residual):
    """A pattern names layers or modules that hold them; the channels they read may still go."""
    groups = find_groups(residual, tensor_forward(IMAGE), ignore=['expand', 'head.?'])
    assert list(members(groups)) == ['stem.0']
    assert {layer.module: layer.reason for layer in groups.dense}['expand.0'] == "ignored by the pattern 'expand'"


def test_pattern_without_layers_is_refused(residual):
    """A pattern that matches nothing is a mistake."""
    with pytest.raises(MmsharpError, match=r"'neck\.\*' matches no layer of Residual"):
        find_groups(residual, tensor_forward(IMAGE), ignore=['neck.*'])


@pytest.mark.parametrize('fails', [False, True])
def test_model_is_left_as_it_was(residual, fails):
    """Weights, buffers, training flags, gradients' switches, hooks and random numbers, also after an error."""
    residual.train()
    residual.stem[1].eval()
    residual.stem[0].weight.requires_grad_(False)
    before = copy.deepcopy(residual.state_dict())
    flags = [module.training for module in residual.modules()]
    random = torch.get_rng_state()

    def forward(model):
        torch.rand(3)
        model(IMAGE)
        if fails:
            raise RuntimeError('no such input')
        return model(IMAGE)

    if fails:
        with pytest.raises(MmsharpError, match='forward of Residual failed with RuntimeError: no such input'):
            find_groups(residual, forward)
    else:
        find_groups(residual, forward)
    assert all(torch.equal(value, before[name]) for name, value in residual.state_dict().items())
    assert [module.training for module in residual.modules()] == flags
    assert torch.equal(torch.get_rng_state(), random)
    assert not residual.stem[0].weight.requires_grad
    assert residual.stem[1].weight.requires_grad
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in residual.modules())
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks
    assert Double.forward(None, torch.ones(1)).item() == 2


def test_same_groups_every_time(residual):
    """Order, names and index maps do not depend on the run."""
    first, second = (find_groups(copy.deepcopy(residual), tensor_forward(IMAGE)) for _ in range(2))
    assert str(first) == str(second)
