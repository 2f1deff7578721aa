"""What the toolboxes lack or what fails in them, and slim models, as ``type=`` of a config."""

from mmsharp.models.cifar_mobilenet_v2 import cifar_mobilenet_v2
from mmsharp.models.cifar_resnet import CIFARResNet
from mmsharp.models.googlenet import GoogLeNet
from mmsharp.models.mask_search import has_masks, is_searching, searching_model, without_masks
from mmsharp.models.mobilenet_v1 import MobileNetV1
from mmsharp.models.slim_model import slim_model, without_downloads
from mmsharp.models.ssd_head import ssd_head

__all__ = [
    'CIFARResNet',
    'GoogLeNet',
    'MobileNetV1',
    'cifar_mobilenet_v2',
    'has_masks',
    'is_searching',
    'searching_model',
    'slim_model',
    'ssd_head',
    'without_downloads',
    'without_masks',
]
