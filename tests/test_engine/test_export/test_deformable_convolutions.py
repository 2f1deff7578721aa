"""Deformable convolutions become ONNX's own operator, which computes what mmcv's kernels do."""

import onnx
import pytest
import torch
from mmcv.ops import DeformConv2d, ModulatedDeformConv2d, deform_conv2d
from mmcv.ops.deform_conv import DeformConv2dFunction
from torch import nn

from mmsharp.engine.export.deformable_convolutions import OPSET, noticed_deformations, standard_deformations
from mmsharp.engine.export.onnx_export import export_onnx
from mmsharp.errors import MmsharpError

pytestmark = pytest.mark.filterwarnings('ignore')  # exporters warn of what is deprecated


class Deformed(nn.Module):
    """A deformable convolution with offsets, and a mask where it takes one, that depend on the image.

    With ``finer``, they come from twice the resolution, as in the lowest level of DyHead.
    """

    def __init__(self, modulated, finer=False, **options):
        super().__init__()
        groups = options.get('deform_groups', 1)
        self.modulated, self.finer = modulated, finer
        self.offset = nn.Conv2d(4, 18 * groups, 3, options.get('stride', 1), 1)
        self.mask = nn.Conv2d(4, 9 * groups, 3, options.get('stride', 1), 1)
        self.conv = (ModulatedDeformConv2d if modulated else DeformConv2d)(4, 6, 3, padding=1, **options)

    def forward(self, images):
        images = torch.cat([images, images[:, :1]], dim=1)
        offset, mask = 3 * self.offset(images), self.mask(images).sigmoid()
        if self.finer:
            images = nn.functional.max_pool2d(images, 2)
        return self.conv(images, offset, mask) if self.modulated else self.conv(images, offset)


FORMS = [{}, {'stride': 2}, {'deform_groups': 2}, {'groups': 2, 'bias': False}]


@pytest.mark.parametrize(
    ('modulated', 'options'),
    [(False, form) for form in FORMS] + [(True, form) for form in [*FORMS, {'finer': True}]],  # the first refuses it
    ids=str,
)
def test_every_form_is_written_with_a_standard_operator(modulated, options, tmp_path):
    """For any batch; onnxruntime agrees with mmcv to rounding; the operator set is chosen by itself."""
    torch.manual_seed(0)
    model = Deformed(modulated, **options).eval()
    report = export_onnx(model, tmp_path / 'a.onnx', (3, 8, 10))
    assert report['exporter'] == 'tracing'
    assert report['difference'] < 1e-5
    content = onnx.load(tmp_path / 'a.onnx')
    assert 'DeformConv' in {node.op_type for node in content.graph.node}
    assert {node.domain for node in content.graph.node} == {''}
    assert content.opset_import[0].version == OPSET


class Sampling(nn.Module):
    """Moves every channel by itself, with a number of groups that is computed from a shape, as TOOD's head does."""

    def forward(self, images):
        channels = images.shape[1]
        offset = torch.cat([images, images], dim=1)
        return deform_conv2d(images, offset, images.new_ones(channels, 1, 1, 1), 1, 0, 1, channels, channels)


def test_groups_that_are_computed_from_a_shape(tmp_path):
    """Sizes say how many there are."""
    report = export_onnx(Sampling(), tmp_path / 'a.onnx', (3, 8, 10))
    assert (report['exporter'], report['difference'] < 1e-5) == ('tracing', True)


def test_an_older_operator_set_is_refused(tmp_path):
    """With what to do, and without a file."""
    with pytest.raises(MmsharpError, match='need operator set 19, not 18'):
        export_onnx(Deformed(True).eval(), tmp_path / 'a.onnx', (3, 8, 8), opset=18)
    assert not (tmp_path / 'a.onnx').exists()


def test_mmcv_is_left_as_it_was():
    """Forward and symbolic are mmcv's own afterwards; what ran is listed."""
    before = DeformConv2dFunction.forward, DeformConv2dFunction.symbolic
    with standard_deformations(OPSET), noticed_deformations() as seen, torch.no_grad():
        Deformed(False)(torch.randn(1, 3, 8, 8))
    assert [call.weight for call in seen] == [(6, 4, 3, 3)]
    assert (DeformConv2dFunction.forward, DeformConv2dFunction.symbolic) == before
    with noticed_deformations() as seen, torch.no_grad():
        nn.Conv2d(3, 3, 1)(torch.randn(1, 3, 8, 8))
    assert seen == []
