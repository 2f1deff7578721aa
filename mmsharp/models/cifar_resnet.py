"""The residual networks of He et al. for CIFAR: 6n+2 layers, three stages of 16, 32 and 64 channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional

from mmsharp.errors import MmsharpError
from mmsharp.registry import MODELS

STAGES = 3
LAYERS_PER_BLOCK = 2


class CIFARBlock(nn.Module):
    """``relu(x' + bn(conv(relu(bn(conv(x))))))`` with a shortcut ``x'`` that has no parameters.

    Where the block halves the map and widens it, ``x'`` is every second pixel of ``x`` with zeros for the new channels,
    half of them before and half behind (He et al. 2016, section 3.3, option A).

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        stride: 1, or 2 where the map is halved.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.stride = stride
        self.missing = channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.missing:
            before = self.missing // 2
            x = functional.pad(x, (0, 0, 0, 0, before, self.missing - before))
        return self.relu(out + x)


@MODELS.register_module()
class CIFARResNet(BaseModule):
    """ResNet-20, 32, 44, 56, 110 ... for images of 32x32: a 3x3 convolution and three stages of n blocks each.

    mmpretrain's ``ResNet_CIFAR`` is another family: ImageNet's ResNet-18 to 152 with a small first convolution. Names
    of layers follow the weights that Y. Idelbayev published; ``tools/model_converters/cifar_resnet.py`` converts them.

    Source: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2, with the shortcuts of option A.

    Args:
        depth: 6n + 2.
        base_channels: Channels of the first stage; each stage doubles them.
        out_indices: Which stages' maps are returned, 0 to 2.
        init_cfg: By default He's normal initialisation for convolutions.

    Raises:
        MmsharpError: The depth is not 6n + 2, or a stage does not exist.

    Example:
        >>> import torch
        >>> network = CIFARResNet(20)
        >>> [tuple(map_.shape) for map_ in network(torch.zeros(1, 3, 32, 32))]
        [(1, 64, 8, 8)]
        >>> sum(parameter.numel() for parameter in network.parameters()) + 64 * 10 + 10  # with the classifier
        269722
    """

    def __init__(
        self,
        depth: int = 20,
        base_channels: int = 16,
        out_indices: Sequence[int] = (STAGES - 1,),
        init_cfg: Any = (dict(type='Kaiming', layer='Conv2d', mode='fan_in'),),
    ) -> None:
        super().__init__(init_cfg=list(init_cfg) if isinstance(init_cfg, tuple) else init_cfg)
        blocks, rest = divmod(depth - 2, STAGES * LAYERS_PER_BLOCK)
        if rest or blocks < 1:
            raise MmsharpError(f'depth {depth!r} of CIFARResNet is not 6n + 2 (20, 32, 44, 56, 110)')
        if not out_indices or not set(out_indices) <= set(range(STAGES)):
            raise MmsharpError(f'out_indices {tuple(out_indices)!r} of CIFARResNet are not among 0, 1 and 2')
        self.out_indices = tuple(out_indices)
        self.conv1 = nn.Conv2d(3, base_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(base_channels)
        self.relu = nn.ReLU(inplace=True)
        width = base_channels
        for stage in range(STAGES):
            channels = base_channels * 2**stage
            stride = 1 if stage == 0 else 2
            first = CIFARBlock(width, channels, stride)
            layer = nn.Sequential(first, *(CIFARBlock(channels, channels) for _ in range(blocks - 1)))
            self.add_module(f'layer{stage + 1}', layer)
            width = channels

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Maps of the chosen stages, of 32x32 images: (N, C, 32, 32), (N, 2C, 16, 16), (N, 4C, 8, 8)."""
        x = self.relu(self.bn1(self.conv1(x)))
        maps = []
        for stage in range(STAGES):
            x = getattr(self, f'layer{stage + 1}')(x)
            if stage in self.out_indices:
                maps.append(x)
        return tuple(maps)
