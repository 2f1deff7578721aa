"""MobileNetV1: the sizes of the paper, the maps of a detector's backbone, and what is frozen."""

import pytest
import torch

from mmsharp.errors import MmsharpError
from mmsharp.models import MobileNetV1
from mmsharp.pruning import count_macs, tensor_forward


@pytest.mark.parametrize(('factor', 'millions', 'million_macs'), [(1.0, 4.2, 569), (0.5, 1.3, 149)])
def test_sizes_are_those_of_the_paper(factor, millions, million_macs):
    """Tables 6 and 8 of Howard et al. 2017, which count the classifier too."""
    network = MobileNetV1(widen_factor=factor).eval()
    classifier = 1000 * round(1024 * factor)
    found = sum(parameter.numel() for parameter in network.parameters()) + classifier + 1000
    assert found / 1e6 == pytest.approx(millions, abs=0.05)
    macs = count_macs(network, tensor_forward(torch.zeros(1, 3, 224, 224))) + classifier
    assert macs / 1e6 == pytest.approx(million_macs, rel=0.01)


def test_maps_have_the_strides_of_a_detector():
    """2, 4, 8, 16, 32, with 64 to 1024 channels."""
    network = MobileNetV1(out_indices=(0, 1, 2, 3, 4)).eval()
    maps = network(torch.zeros(1, 3, 64, 96))
    assert [tuple(found.shape[1:]) for found in maps] == [
        (64, 32, 48),
        (128, 16, 24),
        (256, 8, 12),
        (512, 4, 6),
        (1024, 2, 3),
    ]


def test_depthwise_convolutions_have_one_filter_per_channel():
    """13 of them, each followed by one of 1x1."""
    convolutions = [module for module in MobileNetV1().modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(convolutions) == 27
    for depthwise, pointwise in zip(convolutions[1::2], convolutions[2::2], strict=True):
        assert depthwise.groups == depthwise.in_channels == depthwise.out_channels
        assert (depthwise.kernel_size, pointwise.kernel_size) == ((3, 3), (1, 1))


def test_frozen_stages_and_statistics():
    """From the start, and again after every switch to training."""
    network = MobileNetV1(frozen_stages=1, norm_eval=True)
    for _ in range(2):
        network.train()
        frozen = [name for name, parameter in network.named_parameters() if not parameter.requires_grad]
        assert {name.split('.')[0] for name in frozen} == {'conv1', 'layer1', 'layer2'}
        assert not any(m.training for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
        assert network.layer3.training
    assert all(parameter.requires_grad for parameter in MobileNetV1().parameters())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'out_indices': (5,)}, 'out_indices'),
        ({'frozen_stages': 7}, 'frozen_stages 7'),
        ({'widen_factor': 0}, 'positive'),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    """Named."""
    with pytest.raises(MmsharpError, match=message):
        MobileNetV1(**arguments)
