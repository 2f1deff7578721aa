"""Every shipped config trains a step on fabricated images, without data or downloads, and its network can shrink."""

import copy
import logging
from functools import cache
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS
from shipped_configs import PRUNED, SEARCHED, WHOLE, Name, dense_of, load, sibling_of
from torch import nn

from mmsharp.engine.configs.building_model import build_model
from mmsharp.engine.model_access.fabricated_samples import like
from mmsharp.engine.prunability.examples import announce_first_iteration, training_batch
from mmsharp.errors import MmsharpError
from mmsharp.pruning import Forward, GroupSet, find_groups, tensor_forward
from mmsharp.pruning.latency import LatencyTable, LayerTable
from mmsharp.pruning.latency.layer_calls import layer_calls

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts

SIZES = {'ssd512': 264, 'yolov3': 96, 'cifar10': 32, 'digits_folder': 32}
"""The smallest images that a network takes, by a part of its name; 64 for the others."""
WITHOUT_MASKS = [name for name in WHOLE if name not in SEARCHED or name.startswith('sam/')]
STEPPED = [name for name in WITHOUT_MASKS if sibling_of(name) is None]
"""What trains by a step of its own; the others take that of one of these, and have another budget, length or
augmentation. A search of masks is stepped in test_mask_search.py."""


def comparison_of(name: str) -> tuple[Any, ...]:
    """What decides which budget is met, and how: the scores do not."""
    parts = Name.of(name)
    return parts.ordinary, *parts.budget.items(), parts.method.allocation, parts.method.hook


BUDGETS = list({comparison_of(name): name for name in reversed(PRUNED)}.values())
"""One config of each kind: test_methods.py holds the others to the same pruner, but for criterion and ascent."""


def size_of(name: str) -> int:
    return next((size for part, size in SIZES.items() if part in name), 64)


@cache
def _initialised(dense: str) -> nn.Module:
    torch.manual_seed(0)
    MMLogger.get_current_instance().setLevel(logging.ERROR)  # it lists every parameter that it initialises
    model = build_model(load(dense))
    model.init_weights()
    return model


def batch_of(name: str, images: int = 2) -> dict[str, Any]:
    config = load(name)
    return training_batch(config, config.default_scope, size_of(name), images, seed=0)


def costly(name: str) -> bool:
    """Whether a step takes long, and is put together of what two others step: the scores of one, the ascent of one."""
    return 'ssd512' in name and name.startswith('taylor_')


@pytest.mark.parametrize(
    'name', [pytest.param(name, marks=pytest.mark.large) if costly(name) else name for name in STEPPED]
)
def test_one_step_moves_the_weights(name):
    """The loss is finite, every tensor that learns is finite after the step, and the network is another.

    Scores that training has to be watched for are finite, too, and decide what is pruned.
    """
    config = load(name)
    model = copy.deepcopy(_initialised(dense_of(name)))
    model.train()
    wrapper = build_optim_wrapper(model, copy.deepcopy(config.optim_wrapper))
    pruner = None
    if criterion_of(config):
        pruner = attached_pruner(name, model)
        wrapper.optimizer.register_step_pre_hook(lambda *_: pruner.observe())
    announce_first_iteration()
    before = copy.deepcopy(model.state_dict())
    losses = model.train_step(batch_of(name), wrapper)
    assert torch.isfinite(losses['loss'])
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    learning = {key for key, value in model.named_parameters() if value.requires_grad}
    assert moved
    assert moved <= learning
    assert all(value.isfinite().all() for value in model.parameters())
    if pruner:
        assert all(scores.isfinite().all() for scores in pruner.scores())
        pruner.adopt(pruner.decide(1.0))


def lengths_and_budget_aside(name: str) -> dict[str, Any]:
    """A config as plain data, less what its step does not see, and the augmentation."""
    settings = load(name).to_dict()
    for key in ('train_cfg', 'param_scheduler', 'max_epochs', 'load_from', 'cifar10_aug_pipeline'):
        settings.pop(key, None)
    for key in ('budget', 'warmup', 'pruning'):
        settings['default_hooks'].get('pruning', {}).pop(key, None)
    settings['train_dataloader']['dataset'].pop('pipeline', None)
    return settings


@pytest.mark.parametrize('name', [name for name in WITHOUT_MASKS if sibling_of(name)])
def test_a_variant_takes_the_step_of_its_sibling(name):
    """Key by key the same but for budget, lengths and augmentation; what differs in more needs a step of its own."""
    sibling = sibling_of(name)
    assert sibling in STEPPED
    ours, theirs = lengths_and_budget_aside(name), lengths_and_budget_aside(sibling)
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert ours[key] == theirs[key], key
    if 'aug' not in name:
        assert load(name).train_dataloader == load(sibling).train_dataloader


@pytest.mark.parametrize('name', [name for name in STEPPED if name.startswith('dense/')])
def test_the_network_predicts(name):
    """A result for each image, also from the head of SSD."""
    model = copy.deepcopy(_initialised(name))
    model.eval()
    with torch.no_grad():
        assert len(model.val_step(batch_of(name))) == 2


@cache
def _network(dense: str, ignore: tuple[str, ...]) -> tuple[nn.Module, Forward, GroupSet]:
    """A network, what runs it, and its groups without those layers."""
    model = copy.deepcopy(_initialised(dense))
    model.eval()  # not chained: some models' train() returns nothing
    size = size_of(dense)
    samples = batch_of(dense, images=1)['data_samples']
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    forward = tensor_forward(image, [like(samples, (size, size))])
    announce_first_iteration()
    return model, forward, find_groups(model, forward, ignore)


def fabricated_table(model: nn.Module, forward: Forward) -> LatencyTable:
    """Times in proportion to the work of each layer, from a channel to all."""
    layers = {}
    for path, layer in layer_calls(model, forward).items():
        sizes: Any = {axis: tuple(sorted({1, size})) for axis, size in layer.dense.items()}
        seconds: Any = 1e-9 * layer.macs
        for axis in reversed(sizes.values()):
            seconds = [_scaled(seconds, size / axis[-1]) for size in axis]
        layers[path] = LayerTable(layer.kind, sizes, seconds, layer.elements)
    return LatencyTable(layers, scale=1.0, per_element=0.0, constant=0.0, about={})


def _scaled(seconds: Any, factor: float) -> Any:
    return [_scaled(part, factor) for part in seconds] if isinstance(seconds, list) else factor * seconds


def criterion_of(config: Any) -> Any:
    """The scores that a config names, for which training has to be watched; ``None`` stands for magnitude."""
    return (config.default_hooks.get('pruning', {}).get('pruner') or {}).get('criterion')


def attached_pruner(name: str, model: nn.Module | None = None) -> Any:
    """The pruner of a config, on this network with its scores, or on one that nobody trains, by magnitude."""
    settings = copy.deepcopy(load(name).default_hooks.pruning)
    pruner_settings = settings.get('pruner') or {}
    network, forward, groups = _network(dense_of(name), tuple(pruner_settings.get('ignore', ())))
    if 'latency' in settings.budget:
        settings.pruner.latency_table = fabricated_table(network, forward)
    if model is None and 'criterion' in pruner_settings:
        settings.pruner.pop('criterion')
    pruner = HOOKS.build(settings).pruner
    pruner.attach(network if model is None else model, forward, groups)
    return pruner


@pytest.mark.parametrize('name', BUDGETS)
def test_the_budget_is_met(name):
    """Nearly all weights but the predictions' are in groups, and what remains is the budget or little less."""
    pruner = attached_pruner(name)
    [(resource, budget)] = load(name).default_hooks.pruning.budget.items()
    pruner.adopt(pruner.decide(1.0))
    assert budget - 0.05 <= pruner.kept[resource] <= budget
    if type(pruner.model.backbone).__name__ != 'CIFARResNet':  # whose shortcuts of option A hold what they join
        assert {layer.reason.partition(' by ')[0] for layer in pruner.groups.dense} <= {
            "reaches the model's outputs",
            'ignored',
        }


@pytest.mark.parametrize('name', [name for name in PRUNED if 'latency' in Name.of(name).budget])
def test_a_table_that_is_not_there_names_the_command(name):
    """Before it is measured, pruning stops with the file and the tool."""
    config = load(name)
    model, forward, groups = _network(dense_of(name), tuple(config.default_hooks.pruning.pruner.ignore))
    pruner = HOOKS.build(copy.deepcopy(config.default_hooks.pruning)).pruner
    with pytest.raises(MmsharpError, match=r'_latency\.json.*cannot be read.*latency_table\.py'):
        pruner.attach(model, forward, groups)
