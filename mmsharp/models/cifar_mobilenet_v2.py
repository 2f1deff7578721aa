"""mmpretrain's MobileNetV2 for images of 32x32."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmsharp.registry import MODELS


@MODELS.register_module(name='CIFARMobileNetV2')
def cifar_mobilenet_v2(**config: Any) -> nn.Module:
    """Build mmpretrain's ``MobileNetV2`` with a total stride of 8 instead of 32: two of five halvings are left out.

    The first convolution and the first block of the second stage have stride 1, so that 32x32 pixels end in a map of
    4x4 and not in one pixel. Weights and their names are those of the network for ImageNet. Which halvings go is our
    choice: the paper (Sandler et al. 2018, arXiv 1801.04381) has no network for CIFAR.

    Args:
        config: The arguments of ``mmpretrain.MobileNetV2``.

    Returns:
        An object of mmpretrain's own class.

    Raises:
        ImportError: mmpretrain is not installed.

    Example:
        >>> import pytest, torch
        >>> _ = pytest.importorskip('mmpretrain')
        >>> network = cifar_mobilenet_v2(widen_factor=0.25, out_indices=(0, 6, 7))
        >>> [tuple(map_.shape) for map_ in network(torch.zeros(1, 3, 32, 32))]
        [(1, 8, 32, 32), (1, 80, 4, 4), (1, 1280, 4, 4)]
    """
    from mmpretrain.models import MobileNetV2

    network: Any = MobileNetV2(**config)
    _, depthwise, _ = network.layer2[0].conv
    for layer in (network.conv1, depthwise):
        layer.conv.stride = (1, 1)
    network.layer2[0].stride = 1  # what it says of itself; its channels differ, so that no shortcut depends on it
    return network
