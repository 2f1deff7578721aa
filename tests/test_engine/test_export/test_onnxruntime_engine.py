"""Layers alone in onnxruntime compute what PyTorch computes; else their times would be of something else."""

import numpy as np
import pytest
import torch
from torch import nn

from mmsharp.engine.export.onnxruntime_engine import OnnxRuntimeEngine
from mmsharp.errors import MmsharpError
from mmsharp.pruning import tensor_forward

pytest.importorskip('onnxruntime')

LAYERS = {
    'Conv': (nn.Conv2d(3, 8, 3, stride=2, padding=1, dilation=1), (2, 3, 9, 8)),
    'Conv without bias': (nn.Conv2d(3, 8, (3, 1), padding=(1, 0), bias=False), (1, 3, 6, 6)),
    'dilated': (nn.Conv2d(3, 4, 3, padding=2, dilation=2), (1, 3, 8, 8)),
    'same': (nn.Conv2d(3, 4, 3, padding='same'), (1, 3, 8, 8)),
    'same and even': (nn.Conv2d(3, 4, 2, padding='same'), (1, 3, 8, 8)),
    'valid': (nn.Conv2d(3, 4, 3, padding='valid'), (1, 3, 8, 8)),
    'DepthwiseConv': (nn.Conv2d(8, 8, 3, groups=8), (1, 8, 6, 6)),
    'GroupedConv': (nn.Conv2d(32, 64, 3, groups=16), (1, 32, 6, 6)),
    'Conv1d': (nn.Conv1d(4, 6, 3, padding=1), (2, 4, 10)),
    'Conv3d': (nn.Conv3d(2, 3, 3), (1, 2, 4, 5, 6)),
    'ConvTranspose': (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), (1, 4, 5, 5)),
    'Linear': (nn.Linear(6, 5), (2, 7, 6)),
    'Linear without bias': (nn.Linear(6, 5, bias=False), (3, 6)),
}


@pytest.mark.filterwarnings('ignore:Using padding')  # PyTorch on even kernels
@pytest.mark.parametrize('name', LAYERS)
def test_a_layer_alone_computes_the_same(name):
    """Within float32's rounding."""
    module, shape = LAYERS[name]
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    (output,) = OnnxRuntimeEngine((3, 8, 8), 1).layer(module.requires_grad_(False), inputs)()
    expected = module(inputs).numpy()
    assert np.abs(output - expected).max() <= 1e-5


def test_a_network_computes_the_same():
    """On the images of the forward, not only on random ones."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()
    image = torch.randn(1, 3, 8, 8)
    (output,) = OnnxRuntimeEngine((3, 8, 8), 1).network(model, tensor_forward(image))()
    assert np.abs(output - model(image).detach().numpy()).max() <= 1e-5


class TwoStages(nn.Module):
    """Has what a two-stage detector has."""

    def __init__(self):
        super().__init__()
        self.rpn_head, self.roi_head = Proposals(), nn.Identity()

    def extract_feat(self, images):
        return (images,)


class Proposals(nn.Module):
    """Something of the features."""

    def forward(self, features):
        return features[0].sum()


class OneByOne(nn.Module):
    """Loops over the images, which no exporter leaves open."""

    def forward(self, images):
        return torch.cat([number + images[number : number + 1] for number in range(len(images))])


@pytest.mark.filterwarnings('ignore')
def test_times_of_something_else_are_refused():
    """Of a part of the network, and of one image where a batch was asked for."""
    with pytest.raises(MmsharpError, match='part of TwoStages'):
        OnnxRuntimeEngine((3, 8, 8), 1).network(TwoStages(), tensor_forward(torch.zeros(1, 3, 8, 8)))
    engine = OnnxRuntimeEngine((3, 8, 8), 1)
    with pytest.raises(MmsharpError, match='a batch of 1'):
        engine.network(OneByOne(), tensor_forward(torch.zeros(2, 3, 8, 8)))
    assert engine.network(OneByOne(), tensor_forward(torch.zeros(1, 3, 8, 8)))()[0].shape == (1, 3, 8, 8)
