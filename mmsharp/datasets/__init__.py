"""Data sets, samplers and transforms that configs of the toolboxes name as ``mmsharp.<Name>``."""

from mmsharp.datasets.celeba_hq import CelebAHQ
from mmsharp.datasets.chosen_images import ChosenImages
from mmsharp.datasets.imagenet_v2 import ImageNetV2
from mmsharp.datasets.transforms import Corrupt

__all__ = ['CelebAHQ', 'ChosenImages', 'Corrupt', 'ImageNetV2']
