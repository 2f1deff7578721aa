"""Corner pooling is the same with shifts and maxima as with cummax, and can be written."""

import pytest
import torch
from mmcv.ops import CornerPool
from torch import nn

from mmsharp.engine.export.onnx_export import export_onnx
from mmsharp.engine.export.traceable_corners import POOLS, running_maximum, traceable_corners

pytestmark = pytest.mark.filterwarnings('ignore')  # exporters warn of what is deprecated


@pytest.mark.parametrize('size', [1, 2, 5, 8, 13])
@pytest.mark.parametrize('dim', [2, 3])
def test_the_running_maximum_is_torch_s(dim, size):
    """Bitwise, from both ends, for sizes that are no powers of two, and for infinities."""
    values = torch.randn(2, 3, size, size)
    values[0, 0, 0, 0] = float('-inf')
    assert torch.equal(running_maximum(values, dim), values.cummax(dim).values)
    backwards = values.flip(dim).cummax(dim).values.flip(dim)
    assert torch.equal(running_maximum(values, dim, backwards=True), backwards)


@pytest.mark.parametrize('mode', sorted(POOLS))
def test_a_corner_pool_is_written_and_left_as_it_was(mode, tmp_path):
    """The numbers of mmcv's module inside and outside, and a file that onnxruntime agrees with."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1), CornerPool(mode)).eval()
    images = torch.randn(2, 3, 6, 7)
    with torch.no_grad():
        plain = model(images)
        with traceable_corners(model):
            assert 'forward' in vars(model[1])
            assert torch.equal(model(images), plain)
    assert 'forward' not in vars(model[1])
    assert export_onnx(model, tmp_path / 'a.onnx', (3, 6, 7))['exporter'] == 'tracing'
