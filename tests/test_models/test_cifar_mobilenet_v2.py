"""MobileNetV2 for small images: the toolbox's network, but for two strides."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

mobilenet = pytest.importorskip('mmpretrain.models').MobileNetV2
pytestmark = pytest.mark.filterwarnings('ignore')  # mmpretrain warns of its own optional parts


def build(**settings):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        network = MODELS.build(dict(type='mmsharp.CIFARMobileNetV2', **settings))
    network.eval()  # not chained: its train() returns nothing
    return network


def test_it_has_the_toolbox_s_layers_and_weights():
    """Same class, same names and shapes: weights for ImageNet load."""
    ours, stock = build(), mobilenet()
    assert type(ours) is mobilenet
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in stock.state_dict().items()
    }


def test_maps_shrink_three_times():
    """Two halvings of five are left out; the last map has 4x4 positions."""
    with torch.no_grad():
        maps = build(out_indices=tuple(range(8)))(torch.zeros(1, 3, 32, 32))
    assert [found.shape[-1] for found in maps] == [32, 32, 16, 8, 8, 4, 4, 4]


def test_only_strides_differ():
    """Where the toolbox's own gets them back, the outputs are the same."""
    torch.manual_seed(0)
    ours, stock = build(), mobilenet()
    stock.eval()
    stock.load_state_dict(ours.state_dict())
    changed = [
        (name, module.stride, other.stride)
        for (name, module), other in zip(ours.named_modules(), stock.modules())
        if isinstance(module, torch.nn.Conv2d) and module.stride != other.stride
    ]
    assert changed == [('conv1.conv', (1, 1), (2, 2)), ('layer2.0.conv.1.conv', (1, 1), (2, 2))]
    image = torch.randn(1, 3, 32, 32)
    for name, _, stride in changed:
        ours.get_submodule(name).stride = stride
    with torch.no_grad():
        assert torch.equal(ours(image)[0], stock(image)[0])
