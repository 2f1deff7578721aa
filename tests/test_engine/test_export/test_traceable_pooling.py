"""Pooling to the size of another feature map can be written."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from mmsharp.engine.export.onnx_export import export_onnx
from mmsharp.engine.export.traceable_pooling import FIXED, traceable_pooling

pytestmark = pytest.mark.filterwarnings('ignore')  # exporters warn of what is deprecated


class Gathering(nn.Module):
    """Pools one map to the size of another, as Libra R-CNN's neck does."""

    def __init__(self, pool):
        super().__init__()
        self.pool = pool
        self.one, self.other = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1, stride=4)

    def forward(self, images):
        small = self.other(images)
        large = functional.interpolate(self.one(images), size=images.shape[2:])  # whose size the exporter forgets
        return getattr(functional, self.pool)(large, output_size=small.size()[2:]) + small


@pytest.mark.parametrize('pool', FIXED)
def test_the_size_of_another_map(pool, tmp_path):
    """The same numbers, torch's own function afterwards, and a file that onnxruntime agrees with."""
    model, images, own = Gathering(pool).eval(), torch.randn(2, 3, 8, 8), getattr(functional, pool)
    with torch.no_grad():
        plain = model(images)
        with traceable_pooling():
            assert getattr(functional, pool) is not own
            assert torch.equal(model(images), plain)
    assert getattr(functional, pool) is own
    assert export_onnx(model, tmp_path / 'a.onnx', (3, 8, 8))['exporter'] == 'tracing'


@pytest.mark.parametrize('pool', FIXED)
@pytest.mark.parametrize('size', [4, (3, 5), (None, 2), (1, 1), [2, 4]], ids=str)
def test_every_other_size_is_torch_s(pool, size):
    """Also sizes that do not divide, and indices where they are asked for."""
    images = torch.randn(2, 3, 8, 8)
    plain = getattr(functional, pool)(images, size)
    with traceable_pooling():
        assert torch.allclose(getattr(functional, pool)(images, size), plain, atol=1e-6)
        if pool == 'adaptive_max_pool2d':
            assert len(functional.adaptive_max_pool2d(images, size, return_indices=True)) == 2
