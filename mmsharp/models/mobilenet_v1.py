"""MobileNetV1, which the toolboxes do not have: a plain chain of depth-wise separable convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmsharp.errors import MmsharpError
from mmsharp.registry import MODELS

BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""Output channels and stride of the 13 separable convolutions (Howard et al. 2017, table 1)."""
STAGE_ENDS = (0, 2, 4, 10, 12)
"""The last block before each halving of the map, and the last: strides 2, 4, 8, 16, 32."""
FIRST_CHANNELS = 32


@MODELS.register_module()
class MobileNetV1(BaseModule):
    """3x3 convolution of stride 2, then 13 pairs of a depth-wise 3x3 and a 1x1 convolution, each with BN and ReLU.

    Source: Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications"
    (arXiv 1704.04861), table 1. Departure: none; the last stride is 1, as in the authors' code (the table says 2 for a
    map that does not shrink).

    Args:
        widen_factor: The paper's width multiplier; channels are rounded to whole numbers, at least 8.
        out_indices: Which stages' maps are returned: 0 to 4 for strides 2, 4, 8, 16 and 32.
        frozen_stages: Stages whose weights and statistics stay; -1 for none, 0 for the first convolution too.
        norm_eval: Whether BN keeps its statistics in training.
        norm_cfg: The normalisation.
        act_cfg: The activation.
        init_cfg: By default He's initialisation, and 1 for the scale of BN.

    Raises:
        MmsharpError: A stage does not exist, or the factor is not positive.

    Example:
        >>> import torch
        >>> network = MobileNetV1(widen_factor=0.25, out_indices=(2, 4))
        >>> [tuple(map_.shape) for map_ in network(torch.zeros(1, 3, 64, 64))]
        [(1, 64, 8, 8), (1, 256, 2, 2)]
    """

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (4,),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_cfg: Any = None,
        act_cfg: Any = None,
        init_cfg: Any = (
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer=['_BatchNorm', 'GroupNorm']),
        ),
    ) -> None:
        super().__init__(init_cfg=list(init_cfg) if isinstance(init_cfg, tuple) else init_cfg)
        stages = range(len(STAGE_ENDS))
        if not out_indices or not set(out_indices) <= set(stages):
            raise MmsharpError(f'out_indices {tuple(out_indices)!r} of MobileNetV1 are not among 0 to {stages[-1]}')
        if frozen_stages not in (-1, *stages):
            raise MmsharpError(f'frozen_stages {frozen_stages!r} of MobileNetV1 is not from -1 to {stages[-1]}')
        if not widen_factor > 0:
            raise MmsharpError(f'widen_factor {widen_factor!r} of MobileNetV1 is not positive')
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        norm_cfg = dict(type='BN') if norm_cfg is None else norm_cfg
        act_cfg = dict(type='ReLU') if act_cfg is None else act_cfg
        parts = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)

        def widened(channels: int) -> int:
            return max(8, round(channels * widen_factor))

        width = widened(FIRST_CHANNELS)
        self.conv1 = ConvModule(3, width, 3, stride=2, padding=1, **parts)
        layers: list[list[nn.Module]] = [[] for _ in stages]
        stage = 0
        for number, (channels, stride) in enumerate(BLOCKS):
            depthwise = ConvModule(width, width, 3, stride=stride, padding=1, groups=width, **parts)
            width, narrow = widened(channels), width
            layers[stage].append(nn.Sequential(depthwise, ConvModule(narrow, width, 1, **parts)))
            stage += number == STAGE_ENDS[stage]
        for number, blocks in enumerate(layers):
            self.add_module(f'layer{number + 1}', nn.Sequential(*blocks))
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) to the maps of the chosen stages, of strides 2, 4, 8, 16 and 32."""
        x = self.conv1(x)
        maps = []
        for stage in range(len(STAGE_ENDS)):
            x = getattr(self, f'layer{stage + 1}')(x)
            if stage in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def train(self, mode: bool = True) -> MobileNetV1:
        """Switch the mode; frozen stages stay as they are, and with ``norm_eval`` every BN does."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        for part in (self.conv1, *(getattr(self, f'layer{stage + 1}') for stage in range(self.frozen_stages + 1))):
            part.eval()
            part.requires_grad_(False)
