import copy
import importlib

import pytest
import torch
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import Recipe, apply_recipe, find_groups, tensor_forward

from ..conftest import random_masks

IMAGE = torch.linspace(-1, 1, 4 * 3 * 8 * 8).reshape(4, 3, 8, 8).sin()
DOUBLE = IMAGE.double()


@pytest.fixture
def recipe(residual):
    masks = random_masks(find_groups(residual, tensor_forward(IMAGE)))
    masks.apply_(residual)
    return masks.recipe(residual)


def optimizers():
    return {
        'SGD': lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3, nesterov=True),
        'AdamW': lambda p: torch.optim.AdamW(p, lr=1e-3, amsgrad=True),
        'RMSprop': lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.9, centered=True),
    }


def train(model, optimizer, steps, masks=None):
    for step in steps:
        optimizer.zero_grad()
        model(DOUBLE.roll(step, dims=0) * (1 + step)).square().mean().backward()
        optimizer.step()
        if masks is not None:
            masks.apply_(model)


def test_shapes_attributes_and_identity(residual, recipe):
    """Sizes follow in tensors and attributes alike; parameters stay the same objects."""
    identities = {name: id(parameter) for name, parameter in residual.named_parameters()}
    apply_recipe(residual, recipe)
    assert {name: id(parameter) for name, parameter in residual.named_parameters()} == identities
    conv, depthwise = residual.expand[0], residual.depthwise[0]
    assert conv.weight.shape == (conv.out_channels, conv.in_channels, 1, 1)
    assert depthwise.groups == depthwise.in_channels == depthwise.out_channels == conv.out_channels < 32
    assert residual.expand[1].num_features == len(residual.expand[1].running_mean) == conv.out_channels
    assert all(parameter.is_contiguous() for parameter in residual.parameters())


def test_kept_values_are_index_selected(residual, recipe):
    """Slimming selects and computes nothing."""
    before = copy.deepcopy(residual.state_dict())
    apply_recipe(residual, recipe)
    for name, parameter in residual.named_parameters():
        path, _, last = name.rpartition('.')
        axes = recipe.modules[path].axes if path in recipe.modules else {}
        expected = before[name]
        if 'out' in axes:
            expected = expected[list(axes['out'].kept)]
        if 'in' in axes and last == 'weight':
            expected = expected[:, list(axes['in'].kept)]
        assert torch.equal(parameter, expected)


@pytest.mark.parametrize('name', optimizers())
def test_training_goes_on_as_if_slim_from_the_start(residual, name):
    """Masked training, slimmed with its optimizer state, continues exactly as slim training does."""
    make = optimizers()[name]
    masks = random_masks(find_groups(residual, tensor_forward(IMAGE)))
    masks.apply_(residual)
    slim = copy.deepcopy(residual)
    apply_recipe(slim, masks.recipe(residual))
    residual, slim = residual.double(), slim.double()  # so that the order of summation does not matter
    reference = make(slim.parameters())
    train(slim, reference, range(6))

    optimizer = make(residual.parameters())
    train(residual, optimizer, range(3), masks)
    apply_recipe(residual, masks.recipe(residual), optimizer)
    train(residual, optimizer, range(3, 6))
    for ours, theirs in zip(residual.parameters(), slim.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(optimizer.state_dict()['state'].values(), reference.state_dict()['state'].values()):
        for key, value in ours.items():
            torch.testing.assert_close(value, theirs[key], rtol=1e-9, atol=1e-12)


def test_backward_works_while_an_old_graph_lives(residual, recipe):
    """A loss of the wide model that somebody still holds does not disturb the slim one."""
    old = residual(IMAGE).sum()
    old.backward(retain_graph=True)
    apply_recipe(residual, recipe)
    residual(IMAGE).sum().backward()
    assert residual.stem[0].weight.grad.shape == residual.stem[0].weight.shape
    del old


def test_gradients_of_an_unfinished_sum_shrink_with_their_parameters(residual, recipe):
    """Slimmed between two micro-batches, the sum of their gradients is that of the slim model for both."""
    residual = residual.double().eval()
    slim = copy.deepcopy(residual)
    apply_recipe(slim, recipe)
    residual(DOUBLE).square().mean().backward()
    apply_recipe(residual, recipe)
    residual(DOUBLE + 1).square().mean().backward()
    for batch in (DOUBLE, DOUBLE + 1):
        slim(batch).square().mean().backward()
    for ours, theirs in zip(residual.parameters(), slim.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def test_copies_shrink_alike(residual, recipe):
    """An average of the weights, copied before, takes the same recipe."""
    average = copy.deepcopy(residual)
    apply_recipe(residual, recipe)
    apply_recipe(average, recipe)
    assert torch.equal(average.eval()(IMAGE), residual.eval()(IMAGE))


def test_memory_format_is_kept(residual, recipe):
    """Weights in channels-last order stay so."""
    residual = residual.to(memory_format=torch.channels_last)
    apply_recipe(residual, recipe)
    assert residual.stem[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_twice_is_refused_and_nothing_changes(residual, recipe):
    """The second time names the module and both sizes."""
    apply_recipe(residual, recipe)
    before = copy.deepcopy(residual.state_dict())
    with pytest.raises(
        MmsharpError, match=r"recipe module 'stem\.0': expected out_channels of 16, found \d+ \(the model"
    ):
        apply_recipe(residual, recipe)
    assert all(torch.equal(value, before[name]) for name, value in residual.state_dict().items())


@pytest.mark.parametrize('change', ['missing', 'kind', 'size'])
def test_a_recipe_that_does_not_fit_changes_nothing(residual, recipe, change):
    """Checked in full before anything is touched, though the misfit comes last."""
    data = recipe.to_dict()
    if change == 'missing':
        data['modules']['neck.conv'] = {'type': 'Conv', 'out': {'size': 4, 'kept': [0]}}
    elif change == 'kind':
        data['modules']['head.4'] = {'type': 'Conv', 'in': {'size': 24, 'kept': [0]}}
    else:
        data['modules']['head.4'] = {'type': 'Linear', 'in': {'size': 25, 'kept': [0]}}
    before = copy.deepcopy(residual)
    with pytest.raises(MmsharpError, match=r"recipe module '(neck\.conv|head\.4)': expected .*, found"):
        apply_recipe(residual, Recipe.from_dict(data))
    assert str(residual) == str(before)
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in residual.state_dict().items())


def test_state_that_cannot_follow_is_refused(residual, recipe):
    """State of another shape is named; neither the model nor any state was changed."""
    residual = residual.double()
    optimizer = torch.optim.SGD(residual.parameters(), lr=0.1, momentum=0.9)
    train(residual, optimizer, range(1))
    optimizer.state[residual.head[4].weight]['row_mean'] = torch.zeros(7)
    shape = optimizer.state[residual.stem[0].weight]['momentum_buffer'].shape
    with pytest.raises(MmsharpError, match=r"SGD: state 'row_mean' of shape \(7,\)"):
        apply_recipe(residual, recipe, optimizer)
    assert optimizer.state[residual.stem[0].weight]['momentum_buffer'].shape == shape == residual.stem[0].weight.shape


def test_optimizer_without_state_is_fine():
    """Before the first step there is nothing to select."""
    model = nn.Linear(1, 2)
    recipe = Recipe.from_dict(
        {'format': 'mmsharp.recipe', 'version': 1, 'modules': {'': {'type': 'Linear', 'out': {'size': 2, 'kept': [1]}}}}
    )
    optimizer = torch.optim.Adam(model.parameters())
    apply_recipe(model, recipe, optimizer)
    model(torch.ones(1, 1)).sum().backward()
    optimizer.step()


def _related_layers():
    return nn.ModuleDict(
        {
            'parted': nn.Conv2d(16, 16, 1, groups=4),
            'grouped': nn.Conv2d(16, 32, 1, groups=16),
            'norm': nn.GroupNorm(8, 32),
        }
    )


@pytest.mark.parametrize(
    ('path', 'layer', 'words'),
    [
        (
            'grouped',
            {'type': 'GroupedConv', 'groups': (16, [0, 1])},
            r"axis 'out': expected kept \[0, 1, 2, 3\], by its",
        ),
        ('grouped', {'type': 'GroupedConv', 'out': (32, [0, 1])}, r"axis 'out': expected kept all 32, by its 'groups'"),
        ('norm', {'type': 'GroupNorm', 'out': (32, [0, 1, 2, 3])}, r'found \[0, 1, 2, 3\]'),
        (
            'norm',
            {'type': 'GroupNorm', 'out': (32, [1]), 'groups': (8, [0])},
            r'expected kept \[0, 1, 2, 3\], .* \[1\]',
        ),
        ('parted', {'type': 'PartedConv', 'out': (16, [0, 1, 2])}, r'in each of 4 parts, found \[3, 0, 0, 0\]'),
        (
            'parted',
            {'type': 'PartedConv', 'inner': (4, [0])},
            r"axis 'in': expected kept \[0, 4, 8, 12\], by its 'inner'",
        ),
        (
            'parted',
            {'type': 'PartedConv', 'in': (16, range(15))},
            r'all 16, by .* found 15 of 16, \[0, 1, 2, 3, 4, 5, \.',
        ),
    ],
)
def test_axes_that_do_not_fit_each_other_are_refused(path, layer, words):
    """Runs, tiles and parts within a layer: named with what was expected and found, before anything is touched."""
    model = _related_layers()
    before = copy.deepcopy(model.state_dict())
    axes = {name: {'size': axis[0], 'kept': list(axis[1])} for name, axis in layer.items() if name != 'type'}
    data = {'format': 'mmsharp.recipe', 'version': 2, 'modules': {path: {'type': layer['type'], **axes}}}
    with pytest.raises(MmsharpError, match=words) as refusal:
        apply_recipe(model, Recipe.from_dict(data))
    assert f'recipe module {path!r}' in str(refusal.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_axes_that_fit_each_other_are_cut():
    """What belongs together goes together."""
    model = _related_layers()
    axes = {
        'grouped': {'type': 'GroupedConv', 'groups': (16, [1]), 'out': (32, [2, 3]), 'in': (16, [1])},
        'norm': {'type': 'GroupNorm', 'groups': (8, [0, 7]), 'out': (32, [0, 1, 2, 3, 28, 29, 30, 31])},
        'parted': {'type': 'PartedConv', 'out': (16, [0, 4, 9, 15]), 'inner': (4, [2]), 'in': (16, [2, 6, 10, 14])},
    }
    modules = {
        path: {name: {'size': axis[0], 'kept': axis[1]} if name != 'type' else axis for name, axis in layer.items()}
        for path, layer in axes.items()
    }
    apply_recipe(model, Recipe.from_dict({'format': 'mmsharp.recipe', 'version': 2, 'modules': modules}))
    assert model['parted'](torch.ones(1, 4, 2, 2)).shape == (1, 4, 2, 2)
    assert model['grouped'](torch.ones(1, 1, 2, 2)).shape == (1, 2, 2, 2)
    assert model['norm'](torch.ones(1, 8, 2, 2)).shape == (1, 8, 2, 2)


@pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts
def test_a_block_follows_the_layer_inside_of_it():
    """An attribute that holds the width of another layer, and one of heads."""
    embed = importlib.import_module('mmpretrain.models.utils.embed')
    model = nn.Sequential(embed.PatchMerging(4, 8))
    kept = {'size': 8, 'kept': [0, 5]}
    data = {'format': 'mmsharp.recipe', 'version': 2, 'modules': {'0.reduction': {'type': 'Linear', 'out': kept}}}
    with pytest.raises(MmsharpError, match=r"'0', axis 'width': expected kept \[0, 5\], by its 'out' of 'reduction'"):
        apply_recipe(model, Recipe.from_dict(data))
    data['modules']['0'] = {'type': 'PatchMerging', 'width': kept}
    apply_recipe(model, Recipe.from_dict(data))
    assert model[0].out_channels == model[0].reduction.out_features == 2


def _tied():
    """Two layers of one matrix, and one of the same shift as the second."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight, model[2].bias = model[0].weight, model[1].bias
    return model


KEPT, OTHER = {'size': 4, 'kept': [0, 2]}, {'size': 4, 'kept': [0, 3]}


@pytest.mark.parametrize(
    ('modules', 'words'),
    [
        ({'0': {'out': KEPT}}, r"module '0': its 'weight' is also 'weight' of module '1', a Linear, .* not cut alike"),
        ({'0': {'out': KEPT}, '1': {'in': KEPT}}, r"module '1': its 'weight' is also 'weight' of module '0'"),
        ({'0': {'out': KEPT}, '1': {'out': KEPT}}, r"module '1': its 'bias' is also 'bias' of module '2'"),
        (
            {'0': {'out': KEPT}, '1': {'out': OTHER}},
            r"module '1': its 'weight' is also 'weight' of module '0', .* other",
        ),
        ({'2': {'out': KEPT}}, r"module '2': its 'bias' is also 'bias' of module '1'"),
    ],
)
def test_a_tensor_of_a_module_that_is_not_cut_alike_is_refused(modules, words):
    """Both modules are named, and nothing changes."""
    model = _tied()
    before = copy.deepcopy(model)
    layers = {path: {'type': 'Linear', **axes} for path, axes in modules.items()}
    with pytest.raises(MmsharpError, match=words):
        apply_recipe(model, Recipe.from_dict({'format': 'mmsharp.recipe', 'version': 2, 'modules': layers}))
    assert str(model) == str(before)
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_tensor_that_all_its_modules_cut_alike_shrinks_once():
    """In place, so that the tie holds."""
    model = _tied()
    expected = model[0].weight[[0, 2]][:, [0, 2]].clone()
    layers = {path: {'type': 'Linear', 'in': KEPT, 'out': KEPT} for path in '012'}
    apply_recipe(model, Recipe.from_dict({'format': 'mmsharp.recipe', 'version': 2, 'modules': layers}))
    assert model[0].weight is model[1].weight
    assert torch.equal(model[1].weight, expected)
    assert model(torch.ones(1, 2)).shape == (1, 2)


def test_one_module_under_two_paths_is_named_once():
    """It is the same module, so that there is nothing that would not be cut alike."""
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict({'a': shared, 'b': shared})
    layers = {'b': {'type': 'Linear', 'out': KEPT}}
    apply_recipe(model, Recipe.from_dict({'format': 'mmsharp.recipe', 'version': 2, 'modules': layers}))
    assert model['a'].out_features == len(model['a'].weight) == 2
