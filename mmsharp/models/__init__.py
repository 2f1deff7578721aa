"""What the toolboxes lack or what fails in them, and slim models, as ``type=`` of a config."""

from mmsharp.models.cifar_mobilenet_v2 import cifar_mobilenet_v2
from mmsharp.models.cifar_resnet import CIFARResNet
from mmsharp.models.mobilenet_v1 import MobileNetV1
from mmsharp.models.slim_model import slim_model, without_downloads
from mmsharp.models.ssd_head import ssd_head

__all__ = [
    'CIFARResNet',
    'MobileNetV1',
    'cifar_mobilenet_v2',
    'slim_model',
    'ssd_head',
    'without_downloads',
]
