"""Models for the pruning tests: small hand-made ones, and packaged configs of the toolboxes with random weights."""

import copy
import os
import warnings
from importlib import import_module

import pytest
import torch
from torch import nn

from mmsharp.pruning import ChannelMasks, apply_recipe, find_groups, output_tensors


class Residual(nn.Module):
    """A stem, a residual block with a depthwise convolution, a flatten and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.SiLU())
        self.expand = nn.Sequential(nn.Conv2d(16, 32, 1, bias=False), nn.BatchNorm2d(32), nn.PReLU(32))
        self.depthwise = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.Sigmoid())
        self.project = nn.Sequential(nn.Conv2d(32, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.head = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 5))

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.project(self.depthwise(self.expand(x))))


def randomise_(model, seed=0):
    """Statistics and affines of batch normalisation away from their trivial start."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
    return model


def vary_constants_(model, seed=1):
    """Parameters that all have one value, as after initialisation, away from it: scales of zero hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1 and (parameter == parameter.flatten()[0]).all():
                spread = 0.1 if parameter.dim() < 2 else (len(parameter) / parameter.numel()) ** 0.5
                parameter += torch.randn(parameter.shape, generator=generator) * spread
    return model


def random_masks(groups, seed=0):
    """Masks that keep half of each group, at least one channel."""
    generator = torch.Generator().manual_seed(seed)
    keep = [torch.rand(group.channels, generator=generator) > 0.5 for group in groups.groups]
    for mask in keep:
        mask[0] = True
    return ChannelMasks(groups, keep)


def masked_and_slim(model, forward, train=False):
    """Groups, and the outputs of the dense model, of the masked one and of its slim copy."""
    model.train(train)
    groups = find_groups(model, forward)
    masks = random_masks(groups)
    outputs = [output_tensors(forward(copy.deepcopy(model)))]
    masks.apply_(model)
    slim = copy.deepcopy(model)
    apply_recipe(slim, masks.recipe(model))
    outputs += [output_tensors(forward(model)), output_tensors(forward(slim))]
    return groups, slim, outputs


def assert_masked_equals_slim(outputs, tolerance=1e-5):
    """The law: same shapes as dense, and a difference of at most 1e-5 of the output's scale."""
    dense, masked, slim = outputs
    assert [tensor.shape for tensor in slim] == [tensor.shape for tensor in dense]
    for first, second in zip(masked, slim):
        assert (first - second).abs().max() <= tolerance * first.abs().max()


def torch_pruning_members(model, forward):
    """Group to the layers that Torch-Pruning couples to its first layer, as ``(path, axis)``: our reference."""
    torch_pruning = pytest.importorskip('torch_pruning')
    graph = torch_pruning.DependencyGraph().build_dependency(
        model, torch.zeros(1), forward_fn=lambda traced, _: output_tensors(forward(traced))
    )
    paths = {module: path for path, module in model.named_modules()}

    def members(group):
        root = model.get_submodule(group.name.split('#')[0])
        prune = graph.get_pruner_of_module(root).prune_out_channels
        found = set()
        for dependency, _ in graph.get_pruning_group(root, prune, idxs=list(range(len(root.weight)))):
            module = dependency.target.module
            if module in paths and hasattr(module, 'weight'):
                out = graph.is_out_channel_pruning_fn(dependency.handler)
                separate = isinstance(module, nn.modules.batchnorm._BatchNorm) or getattr(module, 'groups', 1) > 1
                found.add((paths[module], 'out' if out or separate else 'in'))
        return found

    return members


@pytest.fixture
def residual():
    torch.manual_seed(0)
    return randomise_(Residual())


@pytest.fixture
def build_packaged():
    """``build('mmdet', 'ssd/ssd300_coco.py')``: a model of a packaged config, random weights, no downloads."""

    def build(toolbox, config, vary=True):
        package = pytest.importorskip(toolbox)
        from mmengine.config import Config
        from mmengine.model import revert_sync_batchnorm
        from mmengine.registry import DefaultScope

        with warnings.catch_warnings(), DefaultScope.overwrite_default_scope(toolbox):
            warnings.simplefilter('ignore')
            path = os.path.join(os.path.dirname(package.__file__), '.mim', 'configs', config)
            settings = _without_downloads(Config.fromfile(path).model.to_dict())
            torch.manual_seed(0)
            import_module(f'{toolbox}.models')
            model = import_module(f'{toolbox}.registry').MODELS.build(settings)
            model = revert_sync_batchnorm(model)
            return vary_constants_(randomise_(model)) if vary else model

    return build


def _without_downloads(settings):
    if isinstance(settings, dict):
        return {key: _without_downloads(value) for key, value in settings.items() if key != 'init_cfg'}
    if isinstance(settings, (list, tuple)):
        return type(settings)(_without_downloads(value) for value in settings)
    return settings
