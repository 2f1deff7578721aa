import copy
import importlib
import itertools
import math

import pytest
import torch
from torch import nn

from mmsharp.errors import MmsharpError
from mmsharp.pruning import (
    ChannelPruner,
    Recipe,
    apply_recipe,
    count_macs,
    count_parameters,
    find_groups,
    tensor_forward,
)
from mmsharp.registry import ALLOCATIONS, CRITERIA, PRUNERS, SCHEDULES, build_part

FORWARD_IMAGE = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)
FORWARD = tensor_forward(FORWARD_IMAGE)
for _registry in (ALLOCATIONS, CRITERIA, SCHEDULES):
    _registry.import_from_location()
COMBINATIONS = list(
    itertools.product(sorted(CRITERIA.module_dict), sorted(ALLOCATIONS.module_dict), sorted(SCHEDULES.module_dict))
)


@pytest.mark.parametrize(('criterion', 'allocation', 'schedule'), COMBINATIONS)
def test_every_combination_prunes_to_its_budget(residual, criterion, allocation, schedule):
    """Step by step at most the scheduled cost, never growing, and slim equals masked at the end."""
    pruner = build_part(
        PRUNERS,
        {
            'type': 'mmsharp.ChannelPruner',
            'budget': {'params': 0.5},
            'criterion': {'type': f'mmsharp.{criterion}'},
            'allocation': {'type': f'mmsharp.{allocation}'},
            'schedule': {'type': f'mmsharp.{schedule}'},
            'round_to': 2,
        },
    )
    pruner.attach(residual, FORWARD)
    before = pruner.masks.keep
    for step in range(5):
        if pruner.observes:
            residual.zero_grad()
            residual(FORWARD_IMAGE + step).square().mean().backward()
            pruner.observe()
        keep = pruner.update(step / 4).keep
        assert all(bool((new <= old).all()) for new, old in zip(keep, before))
        assert pruner.kept['params'] <= pruner.schedule(step / 4, 0.5)
        before = keep
    assert pruner.verify(FORWARD) <= 1e-5
    slim = copy.deepcopy(residual)
    apply_recipe(slim, pruner.recipe())
    assert pruner.kept['params'] == count_parameters(slim) / pruner.cost.dense['params']
    assert pruner.kept['macs'] == count_macs(slim, FORWARD) / pruner.cost.dense['macs']


@pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts
@pytest.mark.parametrize('heads', [3, 12])
@pytest.mark.parametrize('allocation', ['Global', 'Uniform', 'Knapsack'])
def test_budgets_are_used_up_on_models_with_heads(heads, allocation):
    """With the default steps of eight: no budget costs much more than it asks for, and heads do not all go first."""
    torch.manual_seed(0)
    backbones = importlib.import_module('mmpretrain.models.backbones')
    arch = dict(embed_dims=24 * heads, num_layers=2, num_heads=heads, feedforward_channels=48 * heads)
    model = backbones.VisionTransformer(arch, img_size=32, patch_size=8)
    forward = tensor_forward(torch.randn(1, 3, 32, 32))
    groups = find_groups(model, forward)
    attention = [number for number, group in enumerate(groups.groups) if group.channels == heads]
    assert len(attention) == 2
    for target in (0.97, 0.9, 0.7):
        pruner = ChannelPruner({'macs': target}, allocation={'type': allocation})
        pruner.attach(model, forward, groups)
        keep = pruner.decide(1.0)
        assert target - 0.03 < pruner.cost.fraction('macs', keep) <= target
        assert max(int(keep[number].sum()) for number in attention) > 1


def test_deciding_changes_nothing(residual):
    """The masks that `update` would take over, while masks and weights stay as they are."""
    pruner = ChannelPruner({'params': 0.5})
    pruner.attach(residual, FORWARD)
    before = copy.deepcopy(residual.state_dict())
    decided = pruner.decide(1.0)
    assert all(mask.all() for mask in pruner.masks.keep)
    assert all(torch.equal(value, before[key]) for key, value in residual.state_dict().items())
    assert all(torch.equal(mask, other) for mask, other in zip(decided, pruner.update(1.0).keep))


def test_defaults_are_those_of_the_docstring(residual):
    """Magnitude, global threshold, FORCE, multiples of eight."""
    pruner = ChannelPruner({'channels': 0.6})
    pruner.attach(residual, FORWARD)
    pruner.update(1.0)
    assert [type(part).__name__ for part in (pruner.criterion, pruner.allocation, pruner.schedule)] == [
        'Magnitude',
        'Global',
        'FORCE',
    ]
    assert all(int(mask.sum()) % 8 == 0 for mask in pruner.masks.keep)


def test_the_config_is_not_changed():
    """Building twice from one config gives the same, and the config stays what it was."""
    config = {'type': 'mmsharp.ChannelPruner', 'budget': {'macs': 0.5}, 'criterion': {'type': 'Magnitude', 'p': 1}}
    before = copy.deepcopy(config)
    first, second = build_part(PRUNERS, config), build_part(PRUNERS, config)
    assert config == before
    assert first.criterion.p == second.criterion.p == 1


def test_resume_in_the_middle(residual):
    """A recipe of the middle of pruning, loaded into a new pruner, ends where the uninterrupted run ends."""
    other = copy.deepcopy(residual)
    pruner = ChannelPruner({'params': 0.4}, round_to=1)
    pruner.attach(residual, FORWARD)
    pruner.update(0.5)
    middle, state = pruner.recipe().to_dict(), copy.deepcopy(residual.state_dict())
    pruner.update(1.0)

    resumed = ChannelPruner({'params': 0.4}, round_to=1)
    resumed.attach(other, FORWARD)
    other.load_state_dict(state)
    resumed.load_recipe(Recipe.from_dict(middle))
    assert resumed.recipe().to_dict() == middle
    resumed.update(1.0)
    assert resumed.recipe() == pruner.recipe()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in residual.state_dict().items())


def test_average_of_the_weights_is_masked_too(residual):
    """The masks apply to a copy."""
    average = copy.deepcopy(residual)
    pruner = ChannelPruner({'params': 0.5})
    pruner.attach(residual, FORWARD)
    pruner.update(1.0)
    pruner.apply_(average)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(average.parameters(), residual.parameters()))
    assert pruner.parameter_masks().keys() <= set(residual.parameters())


def test_verify_notices_a_difference(residual, monkeypatch):
    """A slim copy that computes something else shows."""
    pruner = ChannelPruner({'params': 0.5})
    pruner.attach(residual, FORWARD)
    pruner.update(1.0)

    def wrong(model, recipe):
        apply_recipe(model, recipe)
        model.head[4].bias.data.add_(1)

    monkeypatch.setattr('mmsharp.pruning.slimming.slim_difference.apply_recipe', wrong)
    assert pruner.verify(FORWARD) > 0.1


def test_verify_looks_behind_decisions(residual):
    """What reaches the output through a comparison only: the slim copy would decide otherwise."""
    pruner = ChannelPruner({'params': 0.5})
    pruner.attach(residual, FORWARD)
    pruner.update(1.0)

    def forward(model):
        number = torch.ones(1) * sum(parameter.numel() for parameter in model.parameters())
        return FORWARD(model) * (number > 1e9)

    assert pruner.verify(forward) > 0.1


@pytest.fixture
def tf32():
    """Matrix products in TF32, as a user may have set."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.usefixtures('tf32')
@pytest.mark.parametrize('only_float32', [False, True])
def test_verify_runs_in_full_precision(residual, only_float32):
    """Float64, what code names float32 included, or float32 where an operator has no other; the settings return."""
    pruner = ChannelPruner({'params': 0.5})
    pruner.attach(residual, FORWARD)
    pruner.update(1.0)
    seen = []

    def forward(model):
        named = torch.zeros(1, model.head[4].in_features, dtype=torch.float32)
        if only_float32 and named.dtype != torch.float32:
            raise RuntimeError('not implemented for Double')
        seen.append(
            (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32, model.head[4](named).dtype)
        )
        return FORWARD(model)

    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert pruner.verify(forward) <= (1e-5 if only_float32 else 1e-12)
    assert seen == [(False, False, torch.float32 if only_float32 else torch.float64)] * 2
    assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32
    assert torch.get_default_dtype() == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in residual.parameters())


@pytest.mark.usefixtures('tf32')
def test_verify_leaves_everything_after_an_error(residual):
    pruner = ChannelPruner({'params': 0.5})
    pruner.attach(residual, FORWARD)
    pruner.update(1.0)

    def forward(_):
        raise RuntimeError('inside')

    with pytest.raises(RuntimeError, match='inside'):
        pruner.verify(forward)
    assert torch.get_default_dtype() == torch.float32
    assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32


def test_a_model_without_groups_is_refused():
    """With the reasons."""
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Softmax(dim=1), nn.Flatten(), nn.Linear(8 * 64, 2))
    with pytest.raises(MmsharpError, match=r'no prunable channel group: 1 layers: `1`: softmax over channels'):
        ChannelPruner({'params': 0.5}).attach(model, FORWARD)


def test_an_unreachable_budget_is_refused_at_once(residual):
    """With the smallest fraction that can be reached, which then can be reached."""
    with pytest.raises(MmsharpError, match=r'smallest kept fraction is (0\.\d+)') as refusal:
        ChannelPruner({'params': 0.01}).attach(residual, FORWARD)
    reachable = float(str(refusal.value).split('fraction is ')[1][:6])
    pruner = ChannelPruner({'params': reachable})
    pruner.attach(residual, FORWARD)
    pruner.update(1.0)
    assert pruner.kept['params'] <= reachable


@pytest.mark.parametrize('value', [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_are_refused(residual, value):
    """NaN or infinity in the weights does not choose channels; the masks stay."""
    pruner = ChannelPruner({'params': 0.5})
    pruner.attach(residual, FORWARD)
    residual.stem[0].weight.data[0] = value
    with pytest.raises(MmsharpError, match=r"Magnitude: scores of group 'stem\.0'"):
        pruner.update(1.0)
    assert all(mask.all() for mask in pruner.masks.keep)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'budget': {'params': 2}}, 'budget params is 2'),
        ({'budget': {'params': 0.5}, 'round_to': 0}, 'round_to is 0'),
        ({'budget': {'params': 0.5}, 'ignore': 'head'}, 'ignore'),
        ({'budget': {'params': 0.5}, 'ignore': 1}, 'ignore is 1'),
        ({'budget': {'params': 0.5}, 'ignore': ['head', 1]}, r"ignore is \['head', 1\], .* strings"),
        ({'budget': {'params': 0.5}, 'criterion': {'type': 'Magnitud'}}, "'Magnitud' is unknown"),
        ({'budget': {'params': 0.5}, 'schedule': 0.5}, 'schedule is 0.5'),
    ],
)
def test_bad_arguments_are_refused_at_construction(arguments, message):
    """By name, with the value."""
    with pytest.raises(MmsharpError, match=message):
        ChannelPruner(**arguments)


def test_use_before_attach_is_refused():
    """There is nothing to prune yet."""
    with pytest.raises(MmsharpError, match='attach it to a model first'):
        ChannelPruner({'params': 0.5}).update(0.5)


@pytest.mark.parametrize('progress', ['x', None, True, [0.5], pytest.param(10**5000, id='huge'), math.nan, -0.1])
def test_progress_that_is_no_share_is_refused(residual, progress):
    """By its value, and nothing changes."""
    pruner = ChannelPruner({'params': 0.5})
    pruner.attach(residual, FORWARD)
    with pytest.raises(MmsharpError, match=r"progress is ('x'|None|True|\[0\.5\]|an integer of|nan|-0\.1).* 0 to 1"):
        pruner.update(progress)
    assert all(mask.all() for mask in pruner.masks.keep)


def test_a_schedule_that_gives_no_share_is_refused(residual):
    """By name, with what it gave."""
    pruner = ChannelPruner({'params': 0.5}, schedule=lambda progress, target: 'half')
    pruner.attach(residual, FORWARD)
    with pytest.raises(MmsharpError, match=r"function: .* is 'half'"):
        pruner.update(1.0)
