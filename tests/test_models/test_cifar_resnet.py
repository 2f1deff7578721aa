"""The 6n+2 networks: sizes of the paper, a longhand forward, and the published weights where the data is there."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from torch.nn import functional

from mmsharp.errors import MmsharpError
from mmsharp.models import CIFARResNet

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.filterwarnings('ignore')  # the toolboxes warn of their own optional parts


def _classifier(depth, **settings):
    init_default_scope('mmpretrain')
    return MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='mmsharp.CIFARResNet', depth=depth),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=10, in_channels=64, topk=(1,)),
            **settings,
        )
    )


@pytest.mark.parametrize(('depth', 'millions'), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_parameters_are_those_of_the_paper(depth, millions):
    """Table 6 of He et al. 2016."""
    found = sum(parameter.numel() for parameter in _classifier(depth).parameters())
    assert found / 1e6 == pytest.approx(millions, abs=0.03)


def test_the_forward_against_longhand():
    """Every layer written out, with the shortcut of option A: every second pixel, zeros around the old channels."""
    torch.manual_seed(0)
    network = CIFARResNet(8, base_channels=4, out_indices=(0, 1, 2)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    images = torch.randn(2, 3, 32, 32)

    def norm(bn, x):
        return functional.batch_norm(x, bn.running_mean, bn.running_var, bn.weight, bn.bias)

    x = norm(network.bn1, functional.conv2d(images, network.conv1.weight, padding=1)).relu()
    maps = []
    for layer, stride in zip((network.layer1, network.layer2, network.layer3), (1, 2, 2), strict=True):
        block = layer[0]
        inner = norm(block.bn1, functional.conv2d(x, block.conv1.weight, padding=1, stride=stride)).relu()
        inner = norm(block.bn2, functional.conv2d(inner, block.conv2.weight, padding=1))
        shortcut = x[:, :, ::stride, ::stride]
        new = torch.zeros(2, (inner.shape[1] - x.shape[1]) // 2, *shortcut.shape[2:])
        x = (inner + torch.cat([new, shortcut, new], dim=1)).relu()
        maps.append(x)
    with torch.no_grad():
        for found, expected in zip(network(images), maps, strict=True):
            assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [({'depth': 18}, 'depth 18'), ({'depth': 2}, 'depth 2'), ({'out_indices': (3,)}, 'out_indices')],
)
def test_bad_arguments_are_refused(arguments, message):
    """With what there is."""
    with pytest.raises(MmsharpError, match=message):
        CIFARResNet(**arguments)


@pytest.mark.data
@pytest.mark.parametrize(('name', 'depth'), [('resnet20-12fca82f', 20), ('resnet56-4bfd9763', 56)])
def test_published_weights_load_and_are_right(tmp_path, monkeypatch, name, depth):
    """Converted by the tool, on the first images of every class of the test set; published are 91.7 and 93.4 %."""
    import zipfile

    import cv2
    import numpy as np

    path = ROOT / 'tools/model_converters/cifar_resnet.py'
    spec = importlib.util.spec_from_file_location('convert_cifar_resnet', path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    data = Path(os.environ['MMSHARP_DATA'])
    monkeypatch.setattr(sys, 'argv', [str(path), str(data / f'weights/{name}.th'), str(tmp_path / 'converted.pth')])
    tool.main()
    network = _classifier(
        depth,
        data_preprocessor=dict(num_classes=10, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    )
    network.load_state_dict(torch.load(tmp_path / 'converted.pth', weights_only=True)['state_dict'])
    with zipfile.ZipFile(data / 'cifar10/test.zip') as archive:
        names = sorted(entry for entry in archive.namelist() if entry.endswith('.png'))
        classes = sorted({Path(entry).parent.name for entry in names})
        chosen = [entry for kind in classes for entry in [n for n in names if Path(n).parent.name == kind][:30]]
        pictures = [cv2.imdecode(np.frombuffer(archive.read(entry), np.uint8), cv2.IMREAD_COLOR) for entry in chosen]
    images = torch.from_numpy(np.stack(pictures)[..., ::-1].copy()).permute(0, 3, 1, 2)
    labels = torch.tensor([classes.index(Path(entry).parent.name) for entry in chosen])
    with torch.no_grad():
        scores = network.eval()(**network.data_preprocessor({'inputs': images}), mode='tensor')
    assert (scores.argmax(1) == labels).float().mean() >= 0.9
