"""Data sets and transforms that configs of the toolboxes name as ``mmsharp.<Name>``."""

from mmsharp.datasets.celeba_hq import CelebAHQ
from mmsharp.datasets.imagenet_v2 import ImageNetV2
from mmsharp.datasets.transforms import Corrupt

__all__ = ['CelebAHQ', 'Corrupt', 'ImageNetV2']
