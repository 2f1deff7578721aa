"""torchvision's GoogLeNet as a backbone; mmpretrain has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from mmsharp.errors import MmsharpError
from mmsharp.registry import MODELS

STAGES = (
    ('conv1', 'maxpool1', 'conv2', 'conv3', 'maxpool2'),
    ('inception3a', 'inception3b', 'maxpool3'),
    ('inception4a', 'inception4b', 'inception4c', 'inception4d', 'inception4e', 'maxpool4'),
    ('inception5a', 'inception5b'),
)
"""torchvision's modules by the pooling that ends a stage."""
CHANNELS = (192, 480, 832, 1024)


@MODELS.register_module()
class GoogLeNet(BaseModule):
    """Nine inception modules with BatchNorm after every convolution, without the auxiliary classifiers.

    Weights have torchvision's names, so that those of ``torchvision.models.googlenet`` load but for
    ``aux1``, ``aux2`` and ``fc``; its ``transform_input`` is a matter of the data preprocessor and is left out.

    Source: Szegedy et al. 2015, "Going Deeper with Convolutions" (arXiv 1409.4842), table 1, as torchvision has it:
    with BatchNorm, which the paper lacks, and 3x3 kernels where the paper has 5x5.

    Args:
        out_indices: Which stages' maps are returned, 0 to 3.
        small_images: For images of 32x32: the first convolution has stride 1 and the first two poolings are left out,
            so that they end in a map of 8x8 rather than in one pixel. Which halvings go is our choice.
        init_cfg: By default He's initialisation, and 1 for the scale of BN.

    Raises:
        MmsharpError: A stage does not exist.

    Example:
        >>> import torch
        >>> network = GoogLeNet(small_images=True)
        >>> [tuple(map_.shape) for map_ in network(torch.zeros(1, 3, 32, 32))]
        [(1, 1024, 8, 8)]
    """

    def __init__(
        self,
        out_indices: Sequence[int] = (3,),
        small_images: bool = False,
        init_cfg: Any = (
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='_BatchNorm'),
        ),
    ) -> None:
        super().__init__(init_cfg=list(init_cfg) if isinstance(init_cfg, tuple) else init_cfg)
        if not out_indices or not set(out_indices) <= set(range(len(STAGES))):
            raise MmsharpError(f'out_indices {tuple(out_indices)!r} of GoogLeNet are not among 0 to {len(STAGES) - 1}')
        from torchvision.models.googlenet import GoogLeNet as TorchvisionGoogLeNet

        network = TorchvisionGoogLeNet(num_classes=1, aux_logits=False, init_weights=False)
        skipped = ('maxpool1', 'maxpool2') if small_images else ()
        self.out_indices = tuple(out_indices)
        self.stages = [[name for name in stage if name not in skipped] for stage in STAGES]
        for name in (name for stage in self.stages for name in stage):
            self.add_module(name, getattr(network, name))
        if small_images:
            self.conv1.conv.stride = (1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, 3, H, W) to the maps of the chosen stages: 192, 480, 832 and 1024 channels, strides 8, 16, 32 and 32."""
        maps = []
        for number, stage in enumerate(self.stages):
            for name in stage:
                x = getattr(self, name)(x)
            if number in self.out_indices:
                maps.append(x)
        return tuple(maps)
