"""Windows are put together as the toolboxes do, and an exporter can leave the batch open."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from mmsharp.engine.export.onnx_export import export_onnx
from mmsharp.engine.export.traceable_windows import traceable_windows, window_reverse

pytestmark = pytest.mark.filterwarnings('ignore')  # exporters and toolboxes warn of what is deprecated


def _classifier(backbone):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=32, topk=(1,)),
        )
    )
    return model.eval()


SWIN = dict(
    type='SwinTransformer',
    arch=dict(embed_dims=16, depths=[2, 2], num_heads=[1, 2]),
    img_size=64,
    window_size=4,
    drop_path_rate=0.0,
    out_indices=(1,),
)
DAVIT = dict(
    type='DaViT',
    arch=dict(embed_dims=16, num_heads=[1, 2], depths=[1, 1]),
    window_size=4,
    drop_path_rate=0.0,
    out_indices=(1,),
)


@pytest.mark.parametrize('backbone', [SWIN, DAVIT], ids=lambda config: config['type'])
def test_the_same_numbers_and_the_toolbox_s_own_function_afterwards(backbone):
    """Bitwise, and nothing is left on the modules."""
    model, images = _classifier(backbone), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = model(images, mode='tensor')
        with traceable_windows(model):
            changed = [module for module in model.modules() if 'window_reverse' in vars(module)]
            inside = model(images, mode='tensor')
    assert changed
    assert not any('window_reverse' in vars(module) for module in model.modules())
    for one, other in zip(before, inside, strict=True):
        assert torch.equal(one, other)


def test_detection_keeps_the_size_in_the_module():
    """MMDetection's function takes no window size."""
    from mmdet.models.backbones.swin import ShiftWindowMSA

    attention = ShiftWindowMSA(8, 2, 4)
    windows = torch.randn(8, 4, 4, 8)
    plain = attention.window_reverse(windows, 8, 16)
    with traceable_windows(attention):
        assert torch.equal(attention.window_reverse(windows, 8, 16), plain)
    assert torch.equal(window_reverse(windows, 8, 16, 4), plain)


@pytest.mark.parametrize('backbone', [SWIN, DAVIT], ids=lambda config: config['type'])
def test_window_attention_is_exported_for_any_batch(backbone, tmp_path):
    """The export compares batches of one, two and three with PyTorch itself."""
    report = export_onnx(_classifier(backbone), tmp_path / 'model.onnx', (3, 64, 64))
    assert report['difference'] < 1e-4
    assert not report['partial']
